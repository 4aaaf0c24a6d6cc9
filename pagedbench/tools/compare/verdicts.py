"""Finding: the change of one metric in one group of pairs, and its verdict."""

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
    from pagedbench.runs.saved import SavedRun
    from pagedbench.tools.compare.single_pair import Bounds

USUAL_REPEATS = 5
"""Number of pairs to recommend if one pair says nothing about noise."""

COUNTERS = ("num_requests", "completed", "failed")
"""Topics of metrics that do not depend on the clock: any change of them is real, even in wall time."""


class Basis(Enum):
    """Source of the interval of a change."""

    EXACT = "exact"  # virtual time, or a counter: no noise
    PAIRS = "pairs"  # a t-interval over runs
    SINGLE = "one pair"  # a t-interval over sections of one pair
    NOTHING = "no interval"  # one pair, and a metric without a value per request


class Verdict(Enum):
    """Conclusion about a change."""

    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"  # for metrics of which neither direction is better
    EQUAL = "equal"  # exactly
    SAME = "same"  # a change that is too small to be relevant
    NO_CHANGE = "no detectable change"
    INCONCLUSIVE = "inconclusive"
    UNDEFINED = "not defined"


@dataclass(frozen=True, slots=True)
class Finding:
    """One metric of one group.

    Attributes:
        candidate: label of the side that is compared with the reference.
        group: label of the workload; empty if there is only one.
        reference_value, candidate_value: geometric means over the pairs, in the metric's unit.
        effect: the paired change; None if a value is not defined.
        bounds: 95 % interval of the change, on the effect's scale; None if it is exact or unknown.
        num_requests: fewest completed requests in any of the runs.
        num_busy: measured runs that other programs starved; 0 if the change is exact.
        level: the confidence level of `bounds_adjusted`, by Holm's procedure.
        bounds_adjusted: the interval at that level.
        repeats: for an inconclusive verdict, the number of pairs that would be enough, if known.
    """

    metric: Metric
    candidate: str
    group: str
    reference_value: float | None
    candidate_value: float | None
    effect: Effect | None
    basis: Basis
    bounds: Bounds | None
    num_requests: int
    num_busy: int
    level: float = 1 - ALPHA
    bounds_adjusted: Bounds | None = None
    verdict: Verdict = Verdict.UNDEFINED
    repeats: int | None = None

    @property
    def p_value(self) -> float:
        """Probability of such a change by chance; 0 or 1 if the change is exact."""
        if self.effect is None:
            return 1.0
        if self.basis is Basis.EXACT:
            return float(all(is_negligible(change) for change in self.effect.changes))
        if self.basis is Basis.SINGLE and self.bounds is not None:
            return single_pair_p(self.effect.mean, self.bounds)
        return 1.0 if math.isnan(self.effect.p_value) else self.effect.p_value

    @property
    def is_significant(self) -> bool:
        """Whether the adjusted interval excludes zero; always so for an exact change."""
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
    """The change of a metric in a group, not yet judged.

    `bounds_of_single`: the interval from sections, if the group is a single measured pair.
    """
    references = _values(metric, [pair.reference for pair in group.pairs])
    candidates = _values(metric, [pair.candidate for pair in group.pairs])
    is_defined = len(references) == len(candidates) == len(group.pairs)
    effect = paired_effect(references, candidates) if is_defined else None
    basis = _basis(metric, group, has_bounds=bounds_of_single is not None)
    bounds = None
    if effect is not None and basis is not Basis.EXACT:
        bounds = effect.interval() if basis is Basis.PAIRS else bounds_of_single
    runs = [run for pair in group.pairs for run in (pair.reference, pair.candidate)]
    return Finding(
        metric,
        candidate,
        group.label,
        geometric_mean(references) if is_defined else None,
        geometric_mean(candidates) if is_defined else None,
        effect,
        basis,
        bounds,
        num_requests=min(run.values["completed"] for run in runs),
        num_busy=0 if basis is Basis.EXACT else sum(run.is_busy for run in runs),
    )


def _values(metric: Metric, runs: Items[SavedRun]) -> list[float]:
    """The values of the runs in which the metric is defined."""
    values = (run.values.get(metric.name) for run in runs)
    return [float(value) for value in values if value is not None]


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

    Without a significant change the verdict is "no detectable change" only if the interval also excludes a
    change that matters; otherwise it is inconclusive.

    Args:
        threshold: the relative change that matters.
        alpha: the probability of any false change in the family.
        relevance: a smaller relative change is "same", no matter how certain it is.
    """
    noisy = [finding for finding in findings if _is_noisy(finding)]
    levels = iter(holm_levels([finding.p_value for finding in noisy], alpha))
    strictest = 1 - alpha / max(len(noisy), 1)  # the level of the smallest p-value
    return [
        _judged(finding, next(levels) if _is_noisy(finding) else 1 - alpha, strictest, threshold, relevance)
        for finding in findings
    ]


def _is_noisy(finding: Finding) -> bool:
    return finding.effect is not None and finding.basis in (Basis.PAIRS, Basis.SINGLE)


def _judged(
    finding: Finding, level: float, strictest: float, threshold: float, relevance: float
) -> Finding:
    effect = finding.effect
    if effect is None:
        return finding
    finding = replace(finding, level=level, bounds_adjusted=_adjusted(finding, effect, level))
    if finding.is_significant:
        return replace(finding, verdict=_direction(finding, effect, relevance))
    if finding.basis is Basis.EXACT:
        return replace(finding, verdict=Verdict.EQUAL)
    if finding.bounds is not None:
        low, high = finding.bounds
        if effect.as_change(-threshold) < low and high < effect.as_change(threshold):
            return replace(finding, verdict=Verdict.NO_CHANGE)
    repeats = None
    if finding.basis is Basis.PAIRS:
        repeats = repeats_needed(effect.deviation, effect.as_change(threshold), level=strictest)
        if repeats is not None:  # more than there were, as these were not enough
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


def _direction(finding: Finding, effect: Effect, relevance: float) -> Verdict:
    is_small = is_negligible(effect.relative, relevance)
    # Exact changes of every pair are known, even if they cancel in the mean.
    exact = effect.changes if finding.basis is Basis.EXACT else ()
    if is_small and all(is_negligible(effect.as_relative(change), relevance) for change in exact):
        return Verdict.SAME
    if finding.metric.better == "-" or is_small:
        return Verdict.CHANGED
    return Verdict.WORSE if finding.harm > 0 else Verdict.BETTER
