"""A curve for people: one row per pool and policy, the gains from larger pools, and the picture."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import number
from pagedbench.show.charts import Axis, Chart, Line, LinePanel
from pagedbench.show.console import say
from pagedbench.show.table import Column, Table, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from rich.console import Console

    from pagedbench.tools.policies.curve import Row

COLUMNS = (
    Column("GiB", name="kv_gib", is_key=True),
    Column("blocks", name="kv_blocks", is_key=True),
    Column("policy", name="policy", is_key=True, is_text=True),
    Column("alone: hits %", name="alone_hit_pct"),
    Column("warm %", name="alone_warm_hit_pct", priority=1),
    Column("engine: hits %", name="hit_pct"),
    Column("warm %", name="warm_hit_pct", priority=1),
    Column("output tokens/s", name="output_throughput"),
    Column("TTFT p50", "ms", name="ttft_p50_ms", priority=1),
    Column("TTFT p99", "ms", name="ttft_p99_ms"),
    Column("failed", name="failed", priority=2),
)

LEGEND = (
    "alone: the cache without time, and without running requests, which need room in the engine too; hits: "
    "share of the prompt tokens of all requests, with an empty cache at first; warm: of the second half of "
    "the requests"
)

FAILED = (
    "Failed: requests that the pool can never hold. Rows with different numbers served different requests, "
    "and cannot be compared."
)


def print_curve(console: Console, rows: Items[Row]) -> None:
    """Print the table, and the gain from each larger pool."""
    print_table(console, curve_table(rows))
    say(console, f"{LEGEND}.", "dim")
    for sentence in gains(rows):
        say(console, sentence)
    if any(row["failed"] for row in rows):
        say(console, FAILED)


def curve_table(rows: Items[Row]) -> Table:
    """One row per pool and policy: the cache alone, and the engine."""
    alone = {_key(row): row for row in rows if row["where"] == "alone"}
    cells = []
    for row in rows:
        if row["where"] == "engine":
            other = alone.get(_key(row), {})
            known = {f"alone_{name}": other.get(name) for name in ("hit_pct", "warm_hit_pct")} | row
            cells.append([known[column.name] for column in COLUMNS])
    return Table(COLUMNS, cells)


def _key(row: Row) -> tuple[str, int]:
    return row["policy"], row["kv_blocks"]


def gains(rows: Items[Row]) -> list[str]:
    """One sentence per step between pools, for the first policy: the gain from that much more memory."""
    engine = [row for row in rows if row["where"] == "engine" and row["policy"] == rows[0]["policy"]]
    return [
        f"{number(after['kv_gib'] - before['kv_gib'])} GiB more than {number(before['kv_gib'])} GiB: hits "
        f"{number(before['hit_pct'])} to {number(after['hit_pct'])} %, output tokens/s "
        f"{number(before['output_throughput'])} to {number(after['output_throughput'])}, TTFT p99 "
        f"{number(before['ttft_p99_ms'])} to {number(after['ttft_p99_ms'])} ms ({after['policy']})."
        for before, after in itertools.pairwise(engine)
        if before["failed"] == after["failed"]
    ]


def curve_chart(rows: Items[Row], lru: Items[Row]) -> Chart:
    """Hits, throughput and the tail of the time to first token over the pool's size."""
    x = Axis("KV pool (GiB)", is_log=True)
    names = list(dict.fromkeys(row["policy"] for row in rows))
    whole = Line("lru alone, all sizes", *_points(lru, "hit_pct"))
    parts = [whole] + [
        Line(f"{name}, {where}", *_points(_of(rows, name, where), "hit_pct"))
        for name in names
        for where in ("alone", "engine")
        if (name, where) != ("lru", "alone")
    ]
    panels = [LinePanel("", x, Axis("Prefix hits (%)"), tuple(parts))]
    for key, title in (("output_throughput", "Output tokens/s"), ("ttft_p99_ms", "TTFT p99 (ms)")):
        lines = tuple(Line(name, *_points(_of(rows, name, "engine"), key)) for name in names)
        panels.append(LinePanel("", x, Axis(title), lines))
    return Chart(tuple(panels))


def _of(rows: Items[Row], policy: str, where: str) -> list[Row]:
    return [row for row in rows if (row["policy"], row["where"]) == (policy, where)]


def _points(rows: Items[Row], key: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    known = [row for row in rows if row[key] is not None]
    return tuple(row["kv_gib"] for row in known), tuple(float(row[key]) for row in known)
