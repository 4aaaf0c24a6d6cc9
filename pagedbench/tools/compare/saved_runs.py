"""`compare` on saved runs: what was asked, the comparison, its reports, and the exit code."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import typer

from pagedbench.config import ConfigError, flag

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.runs.options import CommandOptions
    from pagedbench.tools.compare.comparison import Comparison, Side
    from pagedbench.tools.compare.gate import Gate

REGRESSION, INVALID, NOT_COMPARABLE = 3, 5, 6
"""Exit codes."""

DEFAULT_THRESHOLD = "5%"
DEFAULT_RELEVANCE = "0.1%"

REPORTS = {"comparison.json": "json", "comparison.csv": "csv", "comparison.md": "md"}
"""What --output leaves, and in which format; beside it the files for CI, where there is a verdict."""

TITLE = "pagedbench compare"
"""What stands over the verdicts in CI."""


@dataclass(frozen=True, slots=True)
class Question:
    """The options that only saved runs have, as they were typed."""

    metric: str | None
    gate: str | None
    threshold: str | None
    relevance: str | None
    gate_single_pair: bool
    across: str | None


def compare_saved(given: CommandOptions, paths: Items[Path], question: Question) -> None:
    """Compare the first path's runs with those of each other path, say so, and end.

    Raises:
        ConfigError: an option makes no sense here, or a path holds no whole run.
        ReportError: the reports cannot be written.
        typer.Exit: with 0, 3, 5 or 6, after all reports.
    """
    from pagedbench.runs.files import check_folder
    from pagedbench.tools.compare.live_verdict import judge_of

    _refuse_run_options(given)
    if len(paths) < 2:
        raise ConfigError("compare needs a second saved run: name what to compare the first one with")
    judge = judge_of(question)
    if given.output is not None:
        check_folder(given.output, force=given.force)
    sides = _sides(paths)
    comparison = judge.compare(sides)
    deliver(comparison, sides, given)
    raise typer.Exit(exit_code(comparison, given, sides))


def _refuse_run_options(given: CommandOptions) -> None:
    """Nothing runs, so nothing of a run can be chosen."""
    if given.flags:
        raise ConfigError(f"{flag(next(iter(given.flags)))} has no effect on saved runs: nothing is run")
    takes = ("flags", "output", "force", "strict", "format")
    for field in fields(given):
        if field.name not in takes and getattr(given, field.name) != field.default:
            raise ConfigError(f"{flag(field.name)} has no effect on saved runs: nothing is run")


def gate_of(question: Question, threshold: float) -> Gate | None:
    from pagedbench.tools.compare.gate import parse_gate

    if question.gate is None:
        if question.gate_single_pair:
            raise ConfigError("--gate-single-pair has no effect without --gate")
        return None
    return parse_gate(question.gate, threshold, takes_single_pairs=question.gate_single_pair)


def metrics_of(text: str | None) -> tuple[str, ...] | None:
    """The metrics of `--metric`; None if nobody asked for any."""
    from pagedbench.metrics.formulas import find_metric

    if text is None:
        return None
    names = [name for name in re.split(r"[,\s]+", text.strip()) if name]
    if not names:
        raise ConfigError("--metric names no metric: write it like --metric ttft_p50_ms,tpot_p50_ms")
    return tuple(find_metric(name).name for name in names)


def _sides(paths: Items[Path]) -> list[Side]:
    """One side a path, under the path's own name, or the whole path where names are equal."""
    from pagedbench.runs.saved import load_runs
    from pagedbench.tools.compare.comparison import Side

    names = [path.name or str(path) for path in paths]
    labels = [
        name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)
    ]
    return [Side(label, tuple(load_runs([path]))) for label, path in zip(labels, paths, strict=True)]


def deliver(comparison: Comparison, sides: Items[Side], given: CommandOptions) -> None:
    """Show the comparison, save it where --output says, and tell GitHub Actions.

    Raises:
        ReportError: the reports cannot be written.
    """
    from pagedbench.runs.files import write_texts
    from pagedbench.show.ci import announce, ci_texts
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.tools.compare.change_documents import changes_document
    from pagedbench.tools.compare.changes import print_changes
    from pagedbench.tools.compare.judgements import invalid_sides, judgements_of

    judgements = judgements_of(comparison)
    if given.strict and comparison.is_comparable:
        judgements += invalid_sides(sides)
    if given.format == "rich":
        print_changes(stdout_console(COMPARE_WIDTH), comparison)
    else:
        sys.stdout.write(changes_document(comparison, given.format))
    if given.output is not None:
        texts = {name: changes_document(comparison, kind) for name, kind in REPORTS.items()}
        folder = write_texts(texts | ci_texts(judgements, TITLE), given.output, force=given.force)
        print(f"Saved to {folder}", file=sys.stderr)
    announce(judgements, TITLE, changes_document(comparison, "md"))


def exit_code(comparison: Comparison, given: CommandOptions, sides: Items[Side]) -> int:
    """6 before 3 before 5: what cannot be compared has no verdict."""
    if not comparison.is_comparable:
        return NOT_COMPARABLE
    if comparison.failures:
        return REGRESSION
    is_usable = all(run.is_usable for side in sides for run in side.runs)
    return INVALID if given.strict and not is_usable else 0
