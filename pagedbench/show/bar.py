"""The KV pool as a bar: five parts that fill its width exactly, distinct even without colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.show.table import Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.text import Text


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the pool: its column in summary.csv, and how it looks."""

    column: str
    name: str
    block: str
    ascii_block: str
    style: str


PARTS = (
    Part("kv_token_states_pct", "token states", "█", "#", "green"),
    Part("kv_reserved_pct", "reserved", "▓", "=", "cyan"),
    Part("kv_internal_pct", "internal", "▒", "x", "yellow"),
    Part("kv_external_pct", "external", "░", "o", "red"),
    Part("kv_free_pct", "free", "·", ".", "bright_black"),
)
"""The parts of the paper's Fig. 2, which shows external fragmentation and free space as one."""


def cells(shares: list[float], width: int) -> list[int]:
    """Divide `width` characters among parts in proportion; the largest remainders get the rest."""
    total = sum(shares)
    if total <= 0:
        return [0] * len(shares)
    exact = [width * share / total for share in shares]
    dealt = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: dealt[i] - exact[i])
    for index in by_remainder[: width - sum(dealt)]:
        dealt[index] += 1
    return dealt


def kv_bar(values: Mapping[str, object], width: int, *, ascii_only: bool) -> Text:
    """The pool of one run, `width` characters wide; empty where nothing ran."""
    from rich.text import Text

    bar = Text()
    for part, count in zip(PARTS, cells([share(values, part) for part in PARTS], width), strict=True):
        bar.append((part.ascii_block if ascii_only else part.block) * count, style=part.style)
    return bar


def kv_legend(values: Mapping[str, object] | None, *, ascii_only: bool) -> Table:
    """The meaning of the characters, with percentages below if there are `values`."""
    columns = tuple(Column(is_key=True, is_text=True) for _ in PARTS)
    names = [
        Cell(f"{part.ascii_block if ascii_only else part.block} {part.name}", style=part.style)
        for part in PARTS
    ]
    if values is None:
        return Table(columns, [names])
    shares = ["-" if values.get(part.column) is None else f"{share(values, part):.1f}%" for part in PARTS]
    return Table(columns, [names, shares])


def share(values: Mapping[str, object], part: Part) -> float:
    """The part's percentage; 0 where nothing ran."""
    value = values.get(part.column)
    return float(value) if isinstance(value, int | float) else 0.0
