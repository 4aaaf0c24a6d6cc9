"""Where latency comes from, as a table: the parts of one run, or of the difference between two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.metrics.attribution import PARTS
from pagedbench.runs.files import csv_text, json_text
from pagedbench.runs.numbers import number
from pagedbench.show.console import say
from pagedbench.show.table import Cell, Column, Table, markdown_table, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from rich.console import Console

    from pagedbench.metrics.attribution import Attribution, Part

SCHEMA_VERSION = 1
LITTLE_TOLERANCE = 0.01
"""The relative error of Little's law above which the reader is warned."""

SMALLEST_SHARE = 5e-4
"""Parts that are below this share of the latency in every run are not listed."""

TOTAL = "end-to-end"


@dataclass(frozen=True, slots=True)
class Explained:
    """A run with its explanation."""

    folder: str
    system: str
    attribution: Attribution


def print_explanation(console: Console, runs: Items[Explained]) -> None:
    """Print the table, and notes on how far to trust it."""
    for run in runs:
        say(console, f"{run.system}: {run.folder}")
    print_table(console, explanation_table(runs))
    for line in notes(runs):
        say(console, line)


def explanation_table(runs: Items[Explained]) -> Table:
    """A row for every part that matters in a run, and the sum; for two runs also their difference."""
    first, last = runs[0].attribution, runs[-1].attribution
    names = ["s", "share"] if len(runs) == 1 else ["first s", "second s", "difference s", "share of it"]
    columns = (
        Column("mean latency", is_key=True, is_text=True),
        Column("part", is_key=True, is_text=True),
        *map(Column, names),
    )
    rows: list[list[object]] = []
    for part in _parts(runs):
        own, other = first.seconds[part.name], last.seconds[part.name]
        rows.append([part.stage, part.label, *_figures(runs, own, other)])
    total = _figures(runs, first.mean_latency, last.mean_latency)
    rows.append([Cell(value, style="bold") for value in (TOTAL, "", *total)])
    return Table(columns, rows)


def _figures(runs: Items[Explained], own: float, other: float) -> list[str | float]:
    """Seconds and their share; for two runs, both, the difference and its share of the whole difference."""
    first, last = runs[0].attribution, runs[-1].attribution
    if len(runs) == 1:
        return [own, _percent(own, first.mean_latency)]
    return [own, other, _signed(other - own), _share(other - own, last.mean_latency - first.mean_latency)]


def _share(seconds: float, whole: float) -> str:
    """A share of the difference, as text; seconds where it exceeds the whole, because others cancel it."""
    if _exceeds(seconds, whole):
        return f"{_signed(seconds)} s"
    return _percent(seconds, whole) if whole else "-"


def _exceeds(seconds: float, whole: float) -> bool:
    """Would the share be shown as more than 100.0 %?"""
    return abs(round(1000 * seconds / whole)) > 1000 if whole else seconds != 0


def _parts(runs: Items[Explained]) -> list[Part]:
    least = SMALLEST_SHARE * max(run.attribution.mean_latency for run in runs)
    return [part for part in PARTS if any(abs(run.attribution.seconds[part.name]) > least for run in runs)]


def _percent(seconds: float, whole: float) -> str:
    return f"{100 * seconds / whole:.1f} %"


def _signed(seconds: float) -> str:
    return f"+{number(seconds)}" if seconds > 0 else number(seconds)


def notes(runs: Items[Explained]) -> list[str]:
    """The meanings of the parts, the check, and how much of the division rests on a fit."""
    lines = [f"{part.stage}, {part.label}: {part.meaning}." for part in _parts(runs)]
    first, last = runs[0].attribution, runs[-1].attribution
    whole = last.mean_latency - first.mean_latency
    if any(_exceeds(last.seconds[part.name] - first.seconds[part.name], whole) for part in PARTS):
        lines.append("A part that exceeds the whole difference is given in seconds: others cancel it.")
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
                f"{100 * own.fitted_share:.0f} % of the time lies in mixed prefill/decode steps, split "
                f"by a fitted model with a median error of {100 * own.fit_error:.2g} %."
            )
    return lines


def explanation_document(runs: Items[Explained], kind: str) -> str:
    """`kind`: "json", "csv" (one row per part, all parts) or "md" (the table)."""
    if kind == "json":
        return json_text({"schema_version": SCHEMA_VERSION, "runs": [_json_object(run) for run in runs]})
    if kind == "csv":
        return _csv(runs)
    return markdown_table(explanation_table(runs)) + "\n" + "".join(f"- {line}\n" for line in notes(runs))


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
    names = ["seconds"] if len(runs) == 1 else ["first_seconds", "second_seconds", "difference_seconds"]
    rows = []
    for part in PARTS:
        seconds = [run.attribution.seconds[part.name] for run in runs]
        figures = seconds if len(runs) == 1 else [*seconds, seconds[1] - seconds[0]]
        cells = (f"{cell:.9f}" for cell in figures)
        identity = {"part": part.name, "stage": part.stage, "label": part.label}
        rows.append({**identity, **dict(zip(names, cells, strict=True))})
    return csv_text(rows[0], rows)
