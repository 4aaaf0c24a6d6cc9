"""Gate: which metrics must not get worse, by how much, and the outcome for each finding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from pagedbench.metrics.statistics import POWER, detectable, is_negligible
from pagedbench.runs.numbers import MINIMUM_FOR_P99, counted
from pagedbench.show.judgement import Outcome
from pagedbench.tools.compare.verdicts import Basis, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.tools.compare.verdicts import Finding


@dataclass(frozen=True, slots=True)
class Gate:
    """The rules of a gate.

    Attributes:
        metrics: names of the metrics that must not get worse.
        threshold: the smallest relative change that fails.
        takes_single_pairs: may a single measured pair of runs fail it?
    """

    metrics: tuple[str, ...]
    threshold: float
    takes_single_pairs: bool = False


@dataclass(frozen=True, slots=True)
class GateResult:
    """The outcome of one finding.

    Attributes:
        reason: the reason, as part of a sentence.
        detectable: the relative change that would be caught with probability POWER; None if unknown.
    """

    finding: Finding
    outcome: Outcome
    reason: str
    detectable: float | None = None


def evaluate(gate: Gate, findings: Iterable[Finding], relevance: float) -> list[GateResult]:
    """Judge every finding of a gated metric. `judge` must have set their levels as one family."""
    return [
        _result(gate, finding, relevance) for finding in findings if finding.metric.name in gate.metrics
    ]


def _result(gate: Gate, finding: Finding, relevance: float) -> GateResult:
    obstacle = _obstacle(gate, finding)
    if obstacle is not None:
        return GateResult(finding, Outcome.NOT_JUDGED, obstacle)
    is_beyond = finding.harm > gate.threshold
    outcome = Outcome.FAILED if is_beyond and finding.is_significant else Outcome.PASSED
    reason = _reason(finding, gate.threshold, relevance, is_beyond=is_beyond)
    return GateResult(finding, outcome, reason, detectable_harm(gate, finding))


def _reason(finding: Finding, threshold: float, relevance: float, *, is_beyond: bool) -> str:
    if finding.verdict is Verdict.EQUAL:
        return "exactly equal"
    if is_negligible(finding.harm):
        return "no change on average"
    if is_negligible(finding.harm, relevance):
        return f"less than {100 * relevance:g} % on average: the same"
    if finding.harm < 0:
        chance = "" if finding.is_significant else ", perhaps by chance"
        return f"{_amount(finding.harm, 'better')}{chance}"
    limit = f"{100 * threshold:g} %"
    if not is_beyond:
        return f"{_amount(finding.harm, 'worse')}, not beyond {limit}"
    chance = "" if finding.is_significant else ", but perhaps by chance: the interval contains zero"
    return f"{_amount(finding.harm, 'worse')}, beyond {limit}{chance}"


def _amount(harm: float, word: str) -> str:
    """A relative change in words; a change from zero has no size."""
    percent = 100 * abs(harm)
    if not math.isfinite(percent):
        return f"{word} (up from 0)"
    return f"{percent:,.0f} % {word}" if percent >= 1000 else f"{percent:.3g} % {word}"


def _obstacle(gate: Gate, finding: Finding) -> str | None:
    """The reason why a finding cannot be gated; None if it can."""
    if finding.effect is None:
        return "it is not defined in every run"
    if "_p99_" in finding.metric.name and finding.num_requests < MINIMUM_FOR_P99:
        return f"a p99 of {finding.num_requests} requests; {MINIMUM_FOR_P99} are needed"
    if finding.num_busy:
        return f"other programs starved {counted(finding.num_busy, 'run')}; repeat on an idle machine"
    if finding.basis is Basis.NOTHING:
        return "a single pair has no interval for it; repeat the runs (run --repeats 5)"
    if finding.basis is Basis.SINGLE and not gate.takes_single_pairs:
        return "a single pair; repeat the runs (run --repeats 5), or allow it with --gate-single-pair"
    return None


def detectable_harm(gate: Gate, finding: Finding) -> float | None:
    """The relative change that this gate would catch with probability POWER, given the observed spread.

    The mean must exceed the threshold and be significant, each with probability POWER. None without a
    spread.
    """
    effect = finding.effect
    if effect is None or finding.basis is not Basis.PAIRS or not math.isfinite(effect.deviation):
        return None
    beyond = effect.as_change(gate.threshold) + NormalDist().inv_cdf(POWER) * effect.error
    significant = detectable(effect.deviation, effect.count, level=finding.level)
    return effect.as_relative(max(beyond, significant))
