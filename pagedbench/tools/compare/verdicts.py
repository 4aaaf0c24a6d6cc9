"""What is said of a metric in a group of pairs: better, worse, no change or inconclusive, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from pagedbench.metrics.statistics import (
    ALPHA,
    RELEVANCE,
    Effect,
    geometric_mean,
    holm_levels,
    is_negligible,
    paired_effect,
    repeats_needed,
)
from pagedbench.tools.compare.single_pair import single_pair_p, widened

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.metrics.formulas import Metric
    from pagedbench.runs.pairing import Group
    from pagedbench.tools.compare.single_pair import Bounds

USUAL_REPEATS = 5
"""What to run where one pair says nothing about noise."""

COUNTERS = ("num_requests", "completed", "failed")
"""What does not depend on the clock: any change is real even in wall time."""


class Basis(Enum):
    """What a verdict rests on."""

    EXACT = "exact"  # virtual time, or a counter: no noise
    PAIRS = "pairs"  # a t-interval over runs
    SINGLE = "one pair"  # a t-interval over sections of one pair
    NOTHING = "no interval"  # one pair, and a metric that is not of requests


class Verdict(Enum):
    """The sign in the table, and in words."""

    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"  # where neither direction is better
    EQUAL = "equal"  # exactly
    SAME = "same"  # there is a change, and it is too small to be relevant
    NO_CHANGE = "no detectable change"
    INCONCLUSIVE = "inconclusive"
    UNDEFINED = "not defined"


@dataclass(frozen=True, slots=True)
class Finding:
    """One metric of one group.

    Attributes:
        metric: which.
        candidate: label of the side that is compared with the reference.
        group: label of the workload; empty if there is only one.
        reference_value, candidate_value: geometric means over the pairs, in the metric's unit.
        effect: the paired change; None where a value is not defined.
        basis: what the interval rests on.
        bounds: 95 % interval of the change, on the effect's scale; None where it is exact or unknown.
        level: the confidence level at which `bounds_adjusted` holds, by Holm's procedure.
        bounds_adjusted: the interval at that level.
        verdict: what to make of it.
        repeats: pairs that would be enough for a verdict, if it is inconclusive and that is known.
        num_requests: fewest completed requests in any of the runs.
        num_busy: measured runs that other programs starved; none where it is exact.
    """

    metric: Metric
    candidate: str
    group: str
    reference_value: float | None
    candidate_value: float | None
    effect: Effect | None
    basis: Basis
    bounds: Bounds | None = None
    level: float = 1 - ALPHA
    bounds_adjusted: Bounds | None = None
    verdict: Verdict = Verdict.UNDEFINED
    repeats: int | None = None
    num_requests: int = 0
    num_busy: int = 0

    @property
    def p_value(self) -> float:
        """That there is no change; 0 and 1 where it is exact."""
        if self.effect is None:
            return 1.0
        if self.basis is Basis.EXACT:
            return float(all(is_negligible(change) for change in self.effect.changes))
        if self.basis is Basis.SINGLE and self.bounds is not None:
            return single_pair_p(self.effect.mean, self.bounds)
        return 1.0 if math.isnan(self.effect.p_value) else self.effect.p_value

    @property
    def is_significant(self) -> bool:
        """Does the adjusted interval exclude no change? Exact changes always do."""
        return self.p_value < 1 - self.level

    @property
    def harm(self) -> float:
        """The relative change in the worse direction; negative if it got better."""
        if self.effect is None:
            return 0.0
        return -self.effect.relative if self.metric.better == "higher" else self.effect.relative


def measure(
    metric: Metric, group: Group, candidate: str, bounds_of_single: Bounds | None = None
) -> Finding:
    """What the pairs of a group show of a metric, not yet judged.

    `bounds_of_single`: the interval from sections, where the group is a single measured pair.
    """
    pairs = [
        (pair.reference.values.get(metric.name), pair.candidate.values.get(metric.name))
        for pair in group.pairs
    ]
    basis = _basis(metric, group, has_bounds=bounds_of_single is not None)
    runs = [run for pair in group.pairs for run in (pair.reference, pair.candidate)]
    finding = Finding(
        metric,
        candidate,
        group.label,
        None,
        None,
        None,
        basis,
        num_requests=min(run.values["completed"] for run in runs),
        num_busy=0 if basis is Basis.EXACT else sum(run.is_busy for run in runs),
    )
    defined = [
        (float(first), float(second)) for first, second in pairs if first is not None and second is not None
    ]
    if len(defined) < len(pairs):
        return finding
    references, candidates = [first for first, _ in defined], [second for _, second in defined]
    effect = paired_effect(references, candidates)
    bounds = effect.interval() if basis is Basis.PAIRS else bounds_of_single
    return replace(
        finding,
        reference_value=geometric_mean(references),
        candidate_value=geometric_mean(candidates),
        effect=effect,
        bounds=None if basis is Basis.EXACT else bounds,
    )


def _basis(metric: Metric, group: Group, *, has_bounds: bool) -> Basis:
    if group.is_exact or metric.name in COUNTERS:
        return Basis.EXACT
    if len(group.pairs) > 1:
        return Basis.PAIRS
    return Basis.SINGLE if has_bounds else Basis.NOTHING


def judge(
    findings: Items[Finding], threshold: float, alpha: float = ALPHA, *, relevance: float = RELEVANCE
) -> list[Finding]:
    """Give the findings of one family their verdicts, at levels that hold for all of them together.

    What shows no change is "no detectable change" only where the interval also rules out a change that
    matters; otherwise it is inconclusive.

    Args:
        threshold: the relative change that matters.
        alpha: the chance of any false change in the family.
        relevance: the relative change below which a change is "same", however certain it is.
    """
    noisy = [finding for finding in findings if _is_noisy(finding)]
    levels = iter(holm_levels([finding.p_value for finding in noisy], alpha))
    return [
        _judged(
            finding,
            next(levels) if _is_noisy(finding) else 1 - alpha,
            1 - alpha / max(len(noisy), 1),
            threshold,
            relevance,
        )
        for finding in findings
    ]


def _is_noisy(finding: Finding) -> bool:
    return finding.effect is not None and finding.basis in (Basis.PAIRS, Basis.SINGLE)


def _judged(
    finding: Finding, level: float, strictest: float, threshold: float, relevance: float
) -> Finding:
    """`strictest`: the level of the family's smallest p-value."""
    effect = finding.effect
    if effect is None:
        return finding
    finding = replace(finding, level=level, bounds_adjusted=_adjusted(finding, effect, level))
    if finding.is_significant:
        return replace(finding, verdict=_direction(finding, effect, relevance))
    if finding.basis is Basis.EXACT:
        return replace(finding, verdict=Verdict.EQUAL)
    if finding.bounds is not None and _is_within(finding.bounds, effect, threshold):
        return replace(finding, verdict=Verdict.NO_CHANGE)
    repeats = None
    if finding.basis is Basis.PAIRS:
        repeats = repeats_needed(effect.deviation, effect.as_change(threshold), level=strictest)
        if repeats is not None:  # what was found is less than what matters, but the rest is unknown
            repeats = max(repeats, effect.count + 1)
    elif effect.is_ratio:
        repeats = USUAL_REPEATS
    return replace(finding, verdict=Verdict.INCONCLUSIVE, repeats=repeats)


def _adjusted(finding: Finding, effect: Effect, level: float) -> Bounds | None:
    """The interval at the level of Holm's procedure."""
    if finding.bounds is None:
        return None
    if finding.basis is Basis.PAIRS:
        return effect.interval(level)
    return widened(finding.bounds, effect.mean, level)


def _is_within(bounds: Bounds, effect: Effect, threshold: float) -> bool:
    return effect.as_change(-threshold) < bounds[0] and bounds[1] < effect.as_change(threshold)


def _direction(finding: Finding, effect: Effect, relevance: float) -> Verdict:
    is_small = is_negligible(effect.relative, relevance)
    # An exact change of every pair is known: changes that cancel in the mean are changes all the same.
    exact = effect.changes if finding.basis is Basis.EXACT else ()
    if is_small and all(is_negligible(effect.as_relative(change), relevance) for change in exact):
        return Verdict.SAME
    if finding.metric.better == "-" or is_small:
        return Verdict.CHANGED
    return Verdict.WORSE if finding.harm > 0 else Verdict.BETTER
