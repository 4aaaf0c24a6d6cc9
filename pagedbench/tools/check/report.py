"""What a check found: the verdict first, a sentence for each case that moved, then all cases."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from pagedbench.runs.files import json_text
from pagedbench.runs.numbers import counted, number
from pagedbench.show.console import print_whole

if TYPE_CHECKING:
    from rich.console import Console

    from pagedbench.show.judgement import Judgement
    from pagedbench.tools.check.findings import CheckResult

SCHEMA_VERSION = 1

WORDS = {"passed": "as before", "failed": "CHANGED", "not judged": "not judged"}
STYLES = {"passed": "green", "failed": "bold red", "not judged": "yellow"}

WALL_SUITE = "wall"
"""Of real runs, which have an interval and no row of counters; failures are told above the table."""

COLUMNS = {
    "num_steps": "iterations",
    "preemptions_recompute": "recomputed",
    "preemptions_swap": "swapped",
    "cow_copies": "copies",
    "running_mean": "running/iteration",
    "kv_token_states_pct": "tokens %",
    "kv_external_pct": "external %",
    "normalized_latency_mean_s": "s/token",
}
"""Figures of the table, and their headings."""


def headline(result: CheckResult) -> str:
    """The verdict in one sentence."""
    outcomes = [judgement.outcome.value for judgement in result.judgements]
    parts = [f"{outcomes.count('passed')} of {counted(len(outcomes), 'check')} as in the baseline"]
    for value, words in (("failed", "changed"), ("not judged", "cannot be compared")):
        if value in outcomes:
            parts.append(f"{outcomes.count(value)} {words}")
    if result.is_interrupted:
        parts.append(f"interrupted after {result.num_run} of {counted(result.num_asked, 'part')}")
    word = {"regression": "Failed", "passed": "Passed"}.get(result.verdict, result.verdict.capitalize())
    return f"{word}: {', '.join(parts)}."


def origin_line(result: CheckResult) -> str:
    """Which baseline it was."""
    return f"Baseline: {result.baseline} ({result.origin})."


def sentences(result: CheckResult) -> list[str]:
    """One a thing that did not pass."""
    return [f"{item.message}." for item in result.judgements if item.outcome.value != "passed"]


def print_check(console: Console, result: CheckResult) -> None:
    """Everything, for people."""
    from rich.table import Table
    from rich.text import Text

    style = {"regression": "bold red", "passed": "bold green"}.get(result.verdict, "bold yellow")
    console.print(headline(result), style=style, soft_wrap=True)
    for sentence in sentences(result):
        console.print(Text(f"  {sentence}"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for heading in ("case", "", *COLUMNS.values()):
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("case", "") else "right")
    exact = [judgement for judgement in result.judgements if judgement.suite != WALL_SUITE]
    for judgement in exact:
        word = Text(WORDS[judgement.outcome.value], style=STYLES[judgement.outcome.value])
        table.add_row(judgement.name, word, *_cells(judgement))
    console.print()
    print_whole(console, table)
    console.print()
    for judgement in result.judgements:
        if judgement.suite == WALL_SUITE and judgement.outcome.value == "passed":
            console.print(Text(f"{judgement.message}."), soft_wrap=True)
    console.print(Text(origin_line(result)), style="dim", soft_wrap=True)


def _cells(judgement: Judgement) -> list[str]:
    """The new figure; of one that moved the old one before it."""
    figures = {figure.name: figure for figure in judgement.figures}
    cells = []
    for name in COLUMNS:
        figure = figures.get(name)
        if figure is None:
            cells.append("")
            continue
        after, before = number(figure.after), number(figure.before)
        cells.append(after if figure.before in (None, figure.after) else f"{before} → {after}")
    return cells


def check_document(result: CheckResult, kind: str) -> str:
    """`kind`: "json", "csv" (a row a judgement) or "md" (for a pull request)."""
    if kind == "json":
        return json_text(_json_object(result))
    return _csv(result) if kind == "csv" else _markdown(result)


def _json_object(result: CheckResult) -> dict[str, object]:
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "check",
        "verdict": result.verdict,
        "baseline": result.baseline,
        "baseline_origin": result.origin,
        "judgements": [
            {
                "suite": item.suite,
                "name": item.name,
                "outcome": item.outcome.value,
                "message": item.message,
                "figures": [
                    {
                        "name": figure.name,
                        "unit": figure.unit,
                        "better": figure.better,
                        "before": figure.before,
                        "after": figure.after,
                    }
                    for figure in item.figures
                ],
            }
            for item in result.judgements
        ],
    }


def _csv(result: CheckResult) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["suite", "name", "outcome", "message"])
    for item in result.judgements:
        writer.writerow([item.suite, item.name, item.outcome.value, item.message])
    return text.getvalue()


def _markdown(result: CheckResult) -> str:
    """The verdict first, the table folded."""
    lines = [f"**{headline(result)}**", "", *(f"- {_escaped(line)}" for line in sentences(result))]
    headings = ["case", "", *COLUMNS.values()]
    lines += ["", f"<details><summary>{counted(len(result.judgements), 'check')}</summary>", ""]
    lines += [_row(headings), _row(["---", "---", *["---:"] * len(COLUMNS)])]
    lines += [_row([item.name, WORDS[item.outcome.value], *_cells(item)]) for item in result.judgements]
    lines += ["", "</details>", "", _escaped(origin_line(result))]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
