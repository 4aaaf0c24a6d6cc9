"""What a check found: the verdict first, a sentence for each case that changed, then all cases."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from pagedbench.runs.files import csv_text, json_text
from pagedbench.runs.numbers import counted, number
from pagedbench.show.console import say
from pagedbench.show.judgement import Outcome
from pagedbench.show.table import Cell, Column, Table, escaped, markdown_table, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from pagedbench.show.judgement import Judgement
    from pagedbench.tools.check.findings import CheckResult

SCHEMA_VERSION = 1

WORDS = {
    Outcome.PASSED: Cell("unchanged", style="green"),
    Outcome.FAILED: Cell("CHANGED", style="bold red"),
    Outcome.NOT_JUDGED: Cell("not judged", style="yellow"),
}

WALL_SUITE = "wall"
"""The suite of real runs, which have intervals but no row of counters."""

CASE = Column("case", is_key=True, is_text=True)
COLUMNS = (
    Column("iterations", name="num_steps"),
    Column("recompute", name="preemptions_recompute"),
    Column("swap", name="preemptions_swap"),
    Column("copies", name="cow_copies", priority=1),
    Column("batch size", name="running_mean"),
    Column("tokens % of KV", name="kv_token_states_pct", priority=1),
    Column("external % of KV", name="kv_external_pct", priority=1),
    Column("mean s/token", name="normalized_latency_mean_s"),
)
"""Columns of figures, by the names of their metrics."""


def headline(result: CheckResult) -> str:
    """The verdict in one sentence."""
    total = counted(len(result.judgements), "check")
    parts = [f"{len(result.of(Outcome.PASSED))} of {total} as in the baseline"]
    for outcome, words in ((Outcome.FAILED, "changed"), (Outcome.NOT_JUDGED, "cannot be compared")):
        if result.of(outcome):
            parts.append(f"{len(result.of(outcome))} {words}")
    if result.is_interrupted:
        parts.append(f"interrupted after {result.num_run} of {counted(result.num_asked, 'part')}")
    word = "Failed" if result.of(Outcome.FAILED) else result.verdict.capitalize()
    return f"{word}: {', '.join(parts)}."


def origin_line(result: CheckResult) -> str:
    """The baseline and its origin, in a sentence."""
    return f"Baseline: {result.baseline} ({result.origin})."


def sentences(result: CheckResult) -> list[str]:
    """One sentence for each judgement that did not pass."""
    return [f"{item.message}." for item in result.judgements if item.outcome is not Outcome.PASSED]


def print_check(console: Console, result: CheckResult) -> None:
    """Print the whole result, for people."""
    is_passed = len(result.of(Outcome.PASSED)) == len(result.judgements) and not result.is_interrupted
    style = "bold red" if result.of(Outcome.FAILED) else "bold green" if is_passed else "bold yellow"
    say(console, headline(result), style)
    for sentence in sentences(result):
        say(console, f"  {sentence}")
    print_table(console, check_table([item for item in result.judgements if item.suite != WALL_SUITE]))
    for judgement in result.of(Outcome.PASSED):
        if judgement.suite == WALL_SUITE:
            say(console, f"{judgement.message}.")
    say(console, origin_line(result), "dim")


def check_table(judgements: Sequence[Judgement]) -> Table:
    """One row per case."""
    rows = [[item.name, WORDS[item.outcome], *_cells(item)] for item in judgements]
    return Table((CASE, Column("state", is_text=True), *COLUMNS), rows)


def _cells(judgement: Judgement) -> list[object]:
    """The new figures; before one that changed, the old one."""
    figures = {figure.name: figure for figure in judgement.figures}
    cells: list[object] = []
    for column in COLUMNS:
        figure = figures.get(column.name)
        if figure is None:
            cells.append("")
        elif figure.before in (None, figure.after):
            cells.append(figure.after)
        else:
            cells.append(f"{number(figure.before)} → {number(figure.after)}")
    return cells


def check_document(result: CheckResult, kind: str) -> str:
    """`kind`: "json", "csv" (one row per judgement) or "md" (for a pull request)."""
    judgements = [asdict(item) | {"outcome": item.outcome.value} for item in result.judgements]
    if kind == "csv":
        return csv_text(("suite", "name", "outcome", "message"), judgements)
    if kind == "md":
        return _markdown(result)
    return json_text(
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "check",
            "verdict": result.verdict,
            "baseline": result.baseline,
            "baseline_origin": result.origin,
            "judgements": judgements,
        }
    )


def _markdown(result: CheckResult) -> str:
    """The verdict first, the table folded."""
    lines = [f"**{headline(result)}**", "", *(f"- {escaped(line)}" for line in sentences(result))]
    lines += ["", f"<details><summary>{counted(len(result.judgements), 'check')}</summary>", ""]
    lines += [markdown_table(check_table(result.judgements)), "</details>", ""]
    return "\n".join([*lines, escaped(origin_line(result))]) + "\n"
