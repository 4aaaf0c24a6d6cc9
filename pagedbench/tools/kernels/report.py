"""The measurements of kernels: one table per op, or one document for a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.runs.files import csv_text, json_text
from pagedbench.show.table import Cell, Column, Table, markdown_table, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    Row = Mapping[str, object]

COLUMNS = (
    Column("kernels", name="kernels", is_key=True, is_text=True),
    Column("form", name="form", is_key=True, is_text=True),
    Column("KV", name="kv_dtype", is_key=True, is_text=True),
    Column("batch", name="batch", is_key=True),
    Column("context", name="context", is_key=True),
    Column("block size", name="block_size", is_key=True),
    Column("shape", name="shape", is_text=True, priority=2),
    Column("median us", name="time_median_us"),
    Column("min us", name="time_min_us", priority=2),
    Column("GB/s", name="gb_per_s", priority=1),
    Column("GFLOP/s", name="gflop_per_s", priority=1),
    Column("% of limit", name="share_pct"),
    Column("bound", name="bound", is_text=True, priority=2),
    Column("over contiguous", name="over_contiguous", priority=1),
    Column("over torch", name="over_torch", priority=1),
    Column("disturbed", name="disturbed", is_text=True, priority=2),
)
"""The columns of a measurement in a terminal."""

DIGITS = 6
"""Significant digits of the floats in kernels.csv."""


def print_kernels(console: Console, rows: Sequence[Row]) -> None:
    """Print one table per op."""
    for op in dict.fromkeys(str(row["op"]) for row in rows):
        own = [row for row in rows if row["op"] == op]
        shown = [c for c in COLUMNS if any(_value(row, c.name) not in ("", None) for row in own)]
        print_table(console, Table(tuple(shown), [_cells(row, shown) for row in own]), title=op)


def kernels_document(rows: Sequence[Row], columns: Sequence[str], kind: str) -> str:
    """`kind`: "json" (a list of objects), "csv" or "md"."""
    if kind == "json":
        return json_text([dict(row) for row in rows])
    if kind == "csv":
        return csv_text(columns, rows, DIGITS)
    table = Table(
        (Column("op", is_text=True), *COLUMNS), [[row["op"], *_cells(row, COLUMNS)] for row in rows]
    )
    return markdown_table(table)


def _cells(row: Row, columns: Sequence[Column]) -> list[Cell]:
    """The cells of a measurement; a disturbed one is dim."""
    return [Cell(_value(row, column.name), style="dim" if row["disturbed"] else "") for column in columns]


def _value(row: Row, name: str) -> object:
    """A value for a document; empty if there is none, such as the FLOPs of an op that only moves bytes."""
    value = row[name]
    if name == "disturbed":
        return name if value else ""
    return "" if value is None or (name == "gflop_per_s" and value == 0) else value
