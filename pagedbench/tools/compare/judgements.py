"""A comparison as judgements for CI: one for each gated figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import counted, number
from pagedbench.show.judgement import Figure, Judgement, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.tools.compare.comparison import Comparison, Contrast, Side
    from pagedbench.tools.compare.gate import GateResult
    from pagedbench.tools.compare.verdicts import Finding

NO_PARTNER = "no complete run of one has a partner with the same requests in the other"


def judgements_of(comparison: Comparison) -> list[Judgement]:
    """One for every gated figure; or, if candidates cannot be compared, a failure for each of them."""
    if not comparison.is_comparable:
        return [
            _refusal(comparison.reference, contrast)
            for contrast in comparison.contrasts
            if not contrast.is_comparable
        ]
    return [_judgement(result) for result in comparison.results]


def invalid_sides(sides: Iterable[Side]) -> list[Judgement]:
    """With `--strict`, a failure for every side with runs that are invalid or were starved."""
    found = []
    for side in sides:
        invalid = sum(not run.values["valid"] for run in side.runs)
        starved = sum(run.is_busy for run in side.runs)
        for bad, name, word in ((invalid, "valid", "invalid"), (starved, "undisturbed", "starved")):
            if bad:
                message = f"{side.label}: {bad} of {counted(len(side.runs), 'run')} {word}."
                found.append(Judgement(side.label, name, Outcome.FAILED, message, ()))
    return found


def _refusal(reference: str, contrast: Contrast) -> Judgement:
    differences = contrast.pairing.differences
    reasons = [f"{item.key}: {item.reference} | {item.candidate}" for item in differences]
    reason = "; ".join(reasons) or NO_PARTNER
    message = f"{reference} and {contrast.candidate} cannot be compared: {reason}."
    return Judgement(contrast.candidate, "comparable", Outcome.FAILED, message, ())


def _judgement(result: GateResult) -> Judgement:
    finding = result.finding
    metric = finding.metric
    suite = f"{finding.candidate}: {finding.group}" if finding.group else finding.candidate
    figure = Figure(
        metric.name, metric.unit, metric.better, finding.reference_value, finding.candidate_value
    )
    return Judgement(suite, metric.name, result.outcome, _message(result), (figure,))


def _message(result: GateResult) -> str:
    """The metric, its values, the gate's reason, the interval, and the detectable change."""
    finding = result.finding
    unit = f" {finding.metric.unit}" if finding.metric.unit else ""
    values = f"{number(finding.reference_value)} → {number(finding.candidate_value)}{unit}"
    text = f"{finding.metric.name} {values}: {result.reason}"
    if result.outcome is not Outcome.NOT_JUDGED:
        text += _interval(finding)
    if result.detectable is not None:
        text += f"; {100 * result.detectable:.2g} % would be caught in 9 of 10 tries"
    return f"{text}."


def _interval(finding: Finding) -> str:
    """The interval at the level that the verdict used, as relative changes."""
    effect, bounds = finding.effect, finding.bounds_adjusted
    if effect is None or bounds is None or not all(map(math.isfinite, bounds)):
        return ""
    low, high = (100 * effect.as_relative(bound) for bound in bounds)
    pairs = counted(effect.count, "pair")
    return f" ({100 * finding.level:.3g} % interval {low:+.3g} % to {high:+.3g} %, {pairs})"
