"""The rows of a sweep for people: the options that vary, the figures, and the state of each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagedbench.runs.files import json_text
from pagedbench.runs.result import state_word
from pagedbench.show.comparison import COLUMNS, LEGEND
from pagedbench.show.console import say
from pagedbench.show.identity import identity, identity_columns, varying
from pagedbench.show.table import Column, Table, markdown_table, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    Row = Mapping[str, Any]


def print_sweep(console: Console, rows: Sequence[Row]) -> None:
    """Print one line per cell, in the order asked for."""
    print_table(console, sweep_table(rows))
    say(console, f"{LEGEND}.", "dim")


def sweep_document(rows: Sequence[Row], kind: str) -> str:
    """`kind`: "json" (a list of objects) or "md"."""
    return json_text(list(map(dict, rows))) if kind == "json" else markdown_table(sweep_table(rows))


def sweep_table(rows: Sequence[Row]) -> Table:
    """The options in which cells differ, the figures, and the state."""
    names = varying(rows)
    columns = (*identity_columns(names), *COLUMNS, Column("state", is_text=True))
    figures = [column.name for column in COLUMNS]
    return Table(
        columns, [[*identity(row, names), *(row[name] for name in figures), state(row)] for row in rows]
    )


def state(row: Row) -> str:
    """The state of a cell, in one word."""
    return state_word(
        row["status"],
        is_valid=bool(row["valid"]),
        is_busy=bool(row["machine_busy"]),
        is_overloaded=bool(row["overloaded"]),
    )
