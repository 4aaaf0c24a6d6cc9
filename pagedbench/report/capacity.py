"""Capacities as rows: a table for people with what limits each system, CSV, JSON with every run made."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pagedbench.config import plain
from pagedbench.report.comparison import is_one_pool
from pagedbench.report.console import print_whole
from pagedbench.report.numbers import number, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

Row = dict[str, Any]

COLUMNS = (
    "system",
    "model",
    "device",
    "trace",
    "arrival",
    "burstiness",
    "n",
    "beam_width",
    "block_size",
    "kv_slots",
    "cost_model",
    "tensor_parallel_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "preemption",
    "prefix_caching",
    "num_requests",
    "duration_s",
    "seed",
    "criterion",
    "capacity",
    "missed_rate",
    "figure_at_capacity",
    "running_mean",
    "limited_by",
    "limit_detail",
    "runs",
    "valid",
)
"""Of capacity.csv. `capacity`: the highest rate tried that is sustained, 0 if none; `missed_rate`: the
lowest tried that is not; both in requests per second. `figure_at_capacity`: what the criterion bounds."""

REFERENCE = "paged"
IDENTITY = ("model", "device", "tensor_parallel_size", "kv_slots", "trace", "n", "beam_width", "block_size",
            "max_num_seqs", "max_num_batched_tokens", "preemption", "prefix_caching", "seed")  # fmt: skip

OWN = ("block_size", "kv_slots", "prefix_caching")
"""Those in which a system may differ from the one that it is compared with; the pools are equal but for
their blocks."""


def print_capacities(console: Console, rows: Sequence[Row]) -> None:
    """One line a system and criterion, in the order asked for; several seeds are summed up below."""
    from rich import box
    from rich.table import Table

    varying = _varying(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("system", no_wrap=True)
    for name in varying:
        table.add_column(name, no_wrap=True)
    for heading in (
        "sustains\nreq/s",
        "misses at\nreq/s",
        "paged /\nthis",
        "measured",
        "running /\niteration",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("limited by", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, varying, rows))
    print_whole(console, table)
    if len({row["criterion"] for row in rows}) == 1:
        console.print(f"Sustained: {rows[0]['criterion']}.", soft_wrap=True)
    for sentence in (*seed_sentences(rows), *limit_sentences(rows)):
        console.print(sentence, soft_wrap=True)


def capacity_csv(rows: Sequence[Row]) -> str:
    """A header and a line a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = (row[name] for name in COLUMNS)
        writer.writerow([f"{cell:.10g}" if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue()


def capacity_document(rows: Sequence[Row], kind: str) -> str:
    """`kind`: "json" (a list of objects, each with its `probes`), "csv" or "md"."""
    if kind == "json":
        return json.dumps(list(rows), indent=2, allow_nan=False) + "\n"
    if kind == "csv":
        return capacity_csv(rows)
    names = ("system", "trace", "seed", "criterion", "capacity", "missed_rate", "limited_by")
    lines = [[*names, "paged / this"], ["---"] * 4 + ["---:"] * 2 + ["---", "---:"]]
    for row in rows:
        lines.append([*(_shown(row[name]) for name in names), _advantage(row, rows)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def seed_sentences(rows: Sequence[Row]) -> list[str]:
    """The range over seeds of everything that was searched with several."""
    groups: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        groups[_label(row, rows, leave_out="seed")].append(row["capacity"])
    return [
        f"{label}: {number(sum(rates) / len(rates))} requests/s on average over {len(rates)} seeds, from "
        f"{number(min(rates))} to {number(max(rates))}."
        for label, rates in groups.items()
        if len(rates) > 1
    ]


def limit_sentences(rows: Sequence[Row]) -> list[str]:
    """Why, for the last row of every system and workload: what was seen in the run that missed."""
    last = {_label(row, rows, leave_out="seed criterion"): row for row in rows if row["limit_detail"]}
    return [
        f"{label} at {number(row['missed_rate'])} requests/s: {row['limit_detail']}."
        for label, row in last.items()
    ]


def _label(row: Row, rows: Sequence[Row], *, leave_out: str) -> str:
    """The row's name among the others: its system, and what else differs."""
    names = [name for name in _varying(rows) if name not in leave_out.split()]
    return ", ".join([row["system"], *(_shown(row[name]) for name in names)])


def _varying(rows: Sequence[Row]) -> list[str]:
    """The columns that tell rows of a system apart."""
    systems, columns = {row["system"] for row in rows}, (*IDENTITY, "criterion")
    names = [n for n in columns if len({(row["system"], str(row.get(n))) for row in rows}) > len(systems)]
    if "kv_slots" in names and is_one_pool((row["kv_slots"], row["block_size"]) for row in rows):
        names = [name for name in names if name != "kv_slots"]
    return names


def _cells(row: Row, varying: Sequence[str], rows: Sequence[Row]) -> list[str]:
    figure = row["figure_at_capacity"]
    return [
        row["system"],
        *(_shown(row[name]) for name in varying),
        number(row["capacity"]),
        number(row["missed_rate"]),
        _advantage(row, rows),
        number(figure),
        number(row["running_mean"]),
        row["limited_by"] or "nothing",
    ]


def _advantage(row: Row, rows: Sequence[Row]) -> str:
    """How many times this system's capacity paged has, on the same workload."""
    same = [
        other
        for other in rows
        if other["system"] == REFERENCE
        and is_one_pool((item["kv_slots"], item["block_size"]) for item in (row, other))
        and all(other[name] == row[name] for name in (*IDENTITY, "criterion") if name not in OWN)
    ]
    return ratio(float(same[0]["capacity"]), row["capacity"]) if len(same) == 1 else ""


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return number(value) if isinstance(value, float) else plain(value)
