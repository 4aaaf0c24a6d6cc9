"""The rows of a sweep for people: what varies, what came out, and what became of each cell."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pagedbench.report.console import print_whole
from pagedbench.report.numbers import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    Row = Mapping[str, Any]

IDENTITY = ("system", "trace", "rate", "seed", "n", "beam_width", "block_size")
"""Columns that tell cells apart, shown where they differ; the system always."""

FIGURES = {
    "normalized_latency_mean_s": "mean s/tok",
    "normalized_latency_p90_s": "p90 s/tok",
    "ttft_p50_ms": "TTFT p50 ms",
    "tpot_p50_ms": "TPOT p50 ms",
    "request_throughput": "req/s",
    "output_throughput": "tok/s",
    "running_mean": "running",
    "kv_token_states_pct": "tokens % KV",
}
"""Columns of figures, and their headings."""


def print_sweep(console: Console, rows: Sequence[Row]) -> None:
    """One line a cell, in the order asked for."""
    from rich import box
    from rich.table import Table

    identity = _varying(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in identity:
        table.add_column(name, justify="left" if name in ("system", "trace") else "right", no_wrap=True)
    for heading in FIGURES.values():
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, identity))
    print_whole(console, table)


def sweep_document(rows: Sequence[Row], kind: str) -> str:
    """`kind`: "json" (a list of objects) or "md"."""
    if kind == "json":
        return json.dumps([_jsonable(row) for row in rows], indent=2, allow_nan=False) + "\n"
    identity = _varying(rows)
    lines = [[*identity, *FIGURES, "state"]]
    lines.append(["---"] * len(identity) + ["---:"] * len(FIGURES) + ["---"])
    lines += [_cells(row, identity) for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def state(row: Row) -> str:
    """What became of a cell, in a word or two."""
    if row["status"] != "complete":
        return str(row["status"])
    verdict = "invalid" if not row["valid"] else "busy" if row["machine_busy"] else "valid"
    return f"overloaded, {verdict}" if row["overloaded"] else verdict


def _varying(rows: Sequence[Row]) -> list[str]:
    return [name for name in IDENTITY if name == "system" or len({str(row[name]) for row in rows}) > 1]


def _cells(row: Row, identity: Sequence[str]) -> list[str]:
    names = ["" if row[name] is None else _short(row[name]) for name in identity]
    return [*names, *(number(row[name]) for name in FIGURES), state(row)]


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _jsonable(row: Row) -> dict[str, Any]:
    """JSON has no infinity: the rate of "all at once" is the text "inf"."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
