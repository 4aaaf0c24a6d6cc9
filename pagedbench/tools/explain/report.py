"""Where latency comes from, as a table: the parts of one run, or of the difference of two."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.metrics.attribution import PARTS
from pagedbench.runs.files import json_text
from pagedbench.runs.numbers import number
from pagedbench.show.console import print_whole

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from rich.console import Console

    from pagedbench.metrics.attribution import Attribution, Part

SCHEMA_VERSION = 1
LITTLE_TOLERANCE = 0.01
"""Share by which Little's law may be off before the reader is warned."""

SMALLEST_SHARE = 5e-4
"""Parts below this share of the latency in every run are not listed."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A run with its explanation."""

    folder: str
    system: str
    attribution: Attribution


def print_explanation(console: Console, runs: Items[Explained]) -> None:
    """The table, and whether to believe it."""
    from rich import box
    from rich.table import Table

    headings, rows = _rows(runs)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for index, heading in enumerate(headings):
        table.add_column(heading, no_wrap=True, justify="left" if index < 2 else "right")
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == TOTAL else None)
    for run in runs:
        console.print(f"{run.system}: {run.folder}", soft_wrap=True)
    print_whole(console, table)
    for line in notes(runs):
        console.print(line)


TOTAL = "end-to-end"


def _rows(runs: Items[Explained]) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for every part that matters in any of the runs, and the sum."""
    first, last = runs[0].attribution, runs[-1].attribution
    latency = max(item.attribution.mean_latency for item in runs)
    is_pair = len(runs) > 1
    headings = ["mean latency", "of it", "s", "share"]
    if is_pair:
        headings = ["mean latency", "of it", "first s", "second s", "difference s", "of the difference"]
    rows = []
    for part in [*_parts(runs, latency), None]:
        name, label = (TOTAL, "") if part is None else (part.stage, part.label)
        own, other = (_seconds(item, part) for item in (first, last))
        if not is_pair:
            rows.append([name, label, number(own), _percent(own, first.mean_latency)])
            continue
        share = _share(other - own, last.mean_latency - first.mean_latency)
        rows.append([name, label, number(own), number(other), _signed(other - own), share])
    return headings, rows


def _share(seconds: float, whole: float) -> str:
    """The share of a difference; in seconds where it is more than all of it, because others cancel it."""
    return (
        f"{_signed(seconds)} s" if _exceeds(seconds, whole) else _percent(seconds, whole) if whole else "-"
    )


def _exceeds(seconds: float, whole: float) -> bool:
    """Would it be shown as more than 100.0 %?"""
    return abs(round(1000 * seconds / whole)) > 1000 if whole else seconds != 0


def _parts(runs: Items[Explained], latency: float) -> list[Part]:
    return [
        part
        for part in PARTS
        if any(abs(run.attribution.seconds[part.name]) > SMALLEST_SHARE * latency for run in runs)
    ]


def _seconds(attribution: Attribution, part: Part | None) -> float:
    return attribution.mean_latency if part is None else attribution.seconds[part.name]


def _percent(seconds: float, whole: float) -> str:
    return f"{100 * seconds / whole:.1f} %"


def _signed(seconds: float) -> str:
    return f"+{number(seconds)}" if seconds > 0 else number(seconds)


def notes(runs: Items[Explained]) -> list[str]:
    """Meanings of the parts, the check, and how much of the division is a fit."""
    latency = max(run.attribution.mean_latency for run in runs)
    lines = [f"{part.stage}, {part.label}: {part.meaning}." for part in _parts(runs, latency)]
    first, last = runs[0].attribution, runs[-1].attribution
    whole = last.mean_latency - first.mean_latency
    if any(_exceeds(last.seconds[part.name] - first.seconds[part.name], whole) for part in PARTS):
        lines.append("A part of more than the whole difference is given in seconds: others cancel it.")
    for run in runs:
        own = run.attribution
        product = own.throughput * own.mean_latency
        verdict = "holds" if own.littles_law_error <= LITTLE_TOLERANCE else "DOES NOT HOLD: do not trust it"
        lines.append(
            f"Little's law {verdict}: {number(own.mean_in_system)} requests in the system over time, and "
            f"{number(own.throughput)} requests/s x {number(own.mean_latency)} s = {number(product)}."
        )
        if own.fit_error is not None:
            lines.append(
                f"{100 * own.fitted_share:.0f} % of the time lies in iterations of several kinds of work, "
                f"divided by a fit with a median error of {100 * own.fit_error:.2g} %."
            )
    return lines


def explanation_document(runs: Items[Explained], kind: str) -> str:
    """`kind`: "json", "csv" (a row a part, every part) or "md" (the table)."""
    if kind == "json":
        return json_text({"schema_version": SCHEMA_VERSION, "runs": [_json_object(run) for run in runs]})
    if kind == "csv":
        return _csv(runs)
    headings, rows = _rows(runs)
    marks = ["---", "---", *["---:"] * (len(headings) - 2)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in [headings, marks, *rows])
    return table + "\n" + "".join(f"- {line}\n" for line in notes(runs))


def _json_object(run: Explained) -> dict[str, object]:
    own = run.attribution
    return {
        "folder": run.folder,
        "system": run.system,
        "num_requests": own.num_requests,
        "mean_latency_s": own.mean_latency,
        "mean_ttft_s": own.mean_ttft,
        "parts_s": own.seconds,
        "littles_law": {
            "mean_in_system": own.mean_in_system,
            "throughput": own.throughput,
            "error": own.littles_law_error,
        },
        "fitted_share": own.fitted_share,
        "fit_error": own.fit_error,
    }


def _csv(runs: Items[Explained]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ["seconds"] if len(runs) == 1 else ["first_seconds", "second_seconds", "difference_seconds"]
    writer.writerow(["part", "stage", "label", *names])
    for part in PARTS:
        seconds = [run.attribution.seconds[part.name] for run in runs]
        cells = seconds if len(runs) == 1 else [*seconds, seconds[1] - seconds[0]]
        writer.writerow([part.name, part.stage, part.label, *(f"{cell:.9f}" for cell in cells)])
    return text.getvalue()
