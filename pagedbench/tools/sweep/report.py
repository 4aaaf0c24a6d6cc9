"""The rows of a sweep for people: what varies, what came out, and what became of each cell."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pagedbench.config import plain
from pagedbench.runs.numbers import number
from pagedbench.show.comparison import is_one_pool
from pagedbench.show.console import print_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    Row = Mapping[str, Any]

IDENTITY = ("model", "device", "tensor_parallel_size", "kv_slots", "trace", "rate", "seed", "n",
            "beam_width", "block_size", "max_num_seqs", "max_num_batched_tokens", "preemption",
            "prefix_caching")  # fmt: skip
"""Columns that tell cells of a system apart, shown where they differ; the system always is."""

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

LEGEND = (
    "req/s, tok/s: the whole run, with drain; s/tok: normalized latency; running: mean over iterations; "
    "% KV: mean over time"
)


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
    console.print(LEGEND, style="dim")


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
    systems = {row["system"] for row in rows}
    names = ["system"]
    names += [n for n in IDENTITY if len({(row["system"], str(row[n])) for row in rows}) > len(systems)]
    if is_one_pool((row["kv_slots"], row["block_size"]) for row in rows):
        names = [name for name in names if name != "kv_slots"]
    return names


def _cells(row: Row, identity: Sequence[str]) -> list[str]:
    names = ["" if row[name] is None else plain(row[name]) for name in identity]
    return [*names, *(number(row[name]) for name in FIGURES), state(row)]


def _jsonable(row: Row) -> dict[str, Any]:
    """JSON has no infinity: the rate of "all at once" is the text "inf"."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
