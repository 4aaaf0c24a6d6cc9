"""The measurements of kernels: a table for each op, or one document for a program."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import number
from pagedbench.show.console import print_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    Row = Mapping[str, object]

SHOWN = {
    "kernels": "kernels",
    "form": "form",
    "batch": "batch",
    "context": "context",
    "block_size": "block",
    "shape": "shape",
    "time_median_us": "median us",
    "time_min_us": "min us",
    "gb_per_s": "GB/s",
    "gflop_per_s": "GFLOP/s",
    "share_pct": "% limit",
    "bound": "bound",
    "over_contiguous": "/contig.",
    "over_torch": "/torch",
    "disturbed": "",
}
"""Columns for people, and their headings."""

WORDS = ("kernels", "form", "shape", "bound", "disturbed")


def print_kernels(console: Console, rows: Sequence[Row]) -> None:
    """One table an op."""
    from rich import box
    from rich.table import Table

    for op in dict.fromkeys(str(row["op"]) for row in rows):
        table = Table(title=op, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
        for name, heading in SHOWN.items():
            table.add_column(heading, justify="left" if name in WORDS else "right", no_wrap=True)
        for row in rows:
            if row["op"] == op:
                style = "dim" if row["disturbed"] else None
                table.add_row(*(_shown(row, name) for name in SHOWN), style=style)
        print_whole(console, table)


def kernels_document(rows: Sequence[Row], columns: Sequence[str], kind: str) -> str:
    """`kind`: "json" (a list of objects), "csv" or "md"."""
    if kind == "json":
        return json.dumps([dict(row) for row in rows], indent=2, allow_nan=False) + "\n"
    if kind == "csv":
        return kernels_csv(rows, columns)
    lines = [["op", *SHOWN], ["---"] + ["---" if name in WORDS else "---:" for name in SHOWN]]
    lines += [[str(row["op"]), *(_shown(row, name) for name in SHOWN)] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def kernels_csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A line a row; floats to six digits, nothing where a value was not measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = (row[name] for name in columns)
        writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue()


def _shown(row: Row, name: str) -> str:
    """Nothing where there is no value, such as the rate of an op that only moves bytes."""
    value = row[name]
    if name == "disturbed":
        return name if value else ""
    return "" if value is None or (name == "gflop_per_s" and value == 0) else number(value)
