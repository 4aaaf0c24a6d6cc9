"""Reports of a comparison, printed, saved, and for CI as one judgement per gated figure; exit codes."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from pagedbench.runs.exit_codes import INVALID, MISSED_SLO, NOT_COMPARABLE, REGRESSION
from pagedbench.runs.files import write_files
from pagedbench.runs.numbers import counted, number
from pagedbench.runs.slo_requirement import shortfall
from pagedbench.show.ci import announce, ci_texts
from pagedbench.show.console import COMPARE_WIDTH, stdout_console
from pagedbench.show.judgement import Figure, Judgement, Outcome
from pagedbench.tools.compare.change_documents import changes_document
from pagedbench.tools.compare.changes import headline, print_changes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.runs.options import CommandOptions
    from pagedbench.tools.compare.comparison import Comparison, Contrast, Side
    from pagedbench.tools.compare.gate import GateResult
    from pagedbench.tools.compare.verdicts import Finding

TITLE = "pagedbench compare"
"""The heading of the verdicts in CI."""

NO_PARTNER = "no complete run of one has a partner with the same requests in the other"


def deliver(comparison: Comparison, sides: Items[Side], options: CommandOptions) -> None:
    """Print the comparison, save it with files for CI in --output, and announce it to GitHub Actions.

    Raises:
        ReportError: the reports cannot be written.
    """
    judgements = judgements_of(comparison)
    if options.strict and comparison.is_comparable:
        judgements += invalid_sides(sides)
    missed = _missed_sides(sides, options)
    judgements += missed
    if options.format == "rich":
        print_changes(stdout_console(COMPARE_WIDTH), comparison)
    else:
        sys.stdout.write(changes_document(comparison, options.format))
    if options.output is not None:
        texts = _documents(comparison) | ci_texts(judgements, TITLE)
        print(f"Saved to {write_files(texts, options.output, force=options.force)}", file=sys.stderr)
    for judgement in missed:
        print(judgement.message, file=sys.stderr)
    announce(judgements, TITLE, changes_document(comparison, "md"))


def report_suspicion(comparison: Comparison, options: CommandOptions, folder: Path) -> None:
    """Save a first round with its runs, and show it to people; programs get only the final verdict."""
    if options.format == "rich":
        print_changes(stdout_console(COMPARE_WIDTH), comparison)
    write_files(_documents(comparison), folder, force=True)
    print(f"Suspected, and to be confirmed by as many fresh runs: {headline(comparison)}", file=sys.stderr)


def _documents(comparison: Comparison) -> dict[str, str]:
    return {f"comparison.{kind}": changes_document(comparison, kind) for kind in ("json", "csv", "md")}


def exit_code(comparison: Comparison, options: CommandOptions, sides: Items[Side]) -> int:
    """The exit code, 6 before 3 before 5 before 4: runs that cannot be compared have no verdict."""
    if not comparison.is_comparable:
        return NOT_COMPARABLE
    if comparison.failures:
        return REGRESSION
    is_usable = all(run.is_usable for side in sides for run in side.runs)
    if options.strict and not is_usable:
        return INVALID
    return MISSED_SLO if _missed_sides(sides, options) else 0


def judgements_of(comparison: Comparison) -> list[Judgement]:
    """One judgement per gated figure; or, if candidates cannot be compared, a failure for each of them."""
    if not comparison.is_comparable:
        return [
            _refusal(comparison.reference, contrast)
            for contrast in comparison.contrasts
            if not contrast.is_comparable
        ]
    return [_judgement(result) for result in comparison.results]


def invalid_sides(sides: Iterable[Side]) -> list[Judgement]:
    """Failures that `--strict` adds: one for each side with runs that are invalid or were starved."""
    found = []
    for side in sides:
        invalid = sum(not run.values["valid"] for run in side.runs)
        starved = sum(run.is_busy for run in side.runs)
        for bad, name, word in ((invalid, "valid", "invalid"), (starved, "undisturbed", "starved")):
            if bad:
                message = f"{side.label}: {bad} of {counted(len(side.runs), 'run')} {word}."
                found.append(Judgement(side.label, name, Outcome.FAILED, message, ()))
    return found


def _missed_sides(sides: Iterable[Side], options: CommandOptions) -> list[Judgement]:
    """Failures that `--require-slo` adds: one for each side with a run that misses it."""
    required, found = options.required_attainment, []
    if required is None:
        return []
    for side in sides:
        runs = [(f"{side.label}/{run.folder.name}", run.values.get("slo_attainment")) for run in side.runs]
        message = shortfall(required, runs)
        if message is not None:
            found.append(Judgement(side.label, "slo_attainment", Outcome.FAILED, message, ()))
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
