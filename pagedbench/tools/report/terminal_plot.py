"""Charts in a terminal: characters on a grid, with axes and a legend; needs no library."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import number
from pagedbench.show.charts import AreaPanel, LinePanel, top_of
from pagedbench.show.styles import look_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from pagedbench.show.charts import BarPanel, Line, Panel
    from pagedbench.show.styles import Look

    Cells = dict[tuple[int, int], tuple[str, str]]
    """Column and row, row 0 at the bottom -> character and colour."""

HEIGHT = 18
MARGIN = 8
"""Characters to the left of the axis, for its numbers."""

STEEPEST = 50
"""A line that climbs at most this many heights of the grid is drawn without gaps."""

MANY_POINTS = 30
"""A line with more points has no markers, which would hide it."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The ranges that are shown, and the size of the grid in characters; the y axis begins at 0."""

    x_min: float
    x_max: float
    y_max: float
    width: int
    is_log: bool = False
    height: int = HEIGHT

    def column(self, x: float) -> int:
        low, high, value = self.x_min, self.x_max, x
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(x)
        return round((value - low) / ((high - low) or 1.0) * (self.width - 1))

    def row(self, y: float) -> int:
        """The row of a value, which may lie above the grid."""
        return round(min(y / self.y_max, 1e6) * (self.height - 1))


def terminal_plot(panel: Panel, *, width: int, ascii_only: bool) -> Text:
    """One panel, `width` characters wide. Lines leave through the top if the axis is cut."""
    from rich.text import Text

    text = Text(f"{panel.title}\n" if panel.title else "", style="bold")
    if isinstance(panel, LinePanel):
        _add_lines(text, panel, width, ascii_only=ascii_only)
    elif isinstance(panel, AreaPanel):
        _add_areas(text, panel, width, ascii_only=ascii_only)
    else:
        _add_bars(text, panel, width, ascii_only=ascii_only)
    return text


def _add_lines(text: Text, panel: LinePanel, width: int, *, ascii_only: bool) -> None:
    xs = [x for line in panel.lines for x in line.xs] or [1.0]
    grid = Grid(
        min(xs) if panel.x.is_log else 0.0,
        max(xs),
        top_of((y for line in panel.lines for y in line.ys), panel.y.top),
        max(width - MARGIN - 2, 20),
        panel.x.is_log,
    )
    cells: Cells = {}
    looks = [line.look or look_at(index) for index, line in enumerate(panel.lines)]
    for line, look in reversed(list(zip(panel.lines, looks, strict=True))):  # the first one lies on top
        _trace_line(cells, line, look, grid, ascii_only=ascii_only)
    _add_grid(text, cells, grid, panel.x.label, panel.y.label, ascii_only=ascii_only)
    _add_legend(text, [line.label for line in panel.lines], looks, ascii_only=ascii_only)


def _trace_line(cells: Cells, line: Line, look: Look, grid: Grid, *, ascii_only: bool) -> None:
    """Draw a dotted line through the points, then the markers over it."""
    marker = look.ascii_character if ascii_only else look.character
    is_long = len(line.xs) > MANY_POINTS
    dot = marker if is_long else "." if ascii_only else "·"
    points = [(grid.column(x), grid.row(y)) for x, y in zip(line.xs, line.ys, strict=True)]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length = max(x1 - x0, min(abs(y1 - y0), STEEPEST * grid.height), 1)
        for step in range(length + 1):
            row = y0 + round((y1 - y0) * step / length)
            if row < grid.height:
                cells[x0 + round((x1 - x0) * step / length), row] = (dot, look.terminal_color)
    for column, row in [] if is_long else points:
        if row < grid.height:
            cells[column, row] = (marker, look.terminal_color)


def _add_areas(text: Text, panel: AreaPanel, width: int, *, ascii_only: bool) -> None:
    """Draw areas from the bottom, the curve over them on its own scale, and marks in the top row."""
    looks = [series.looks[0] if series.looks else look_at(i) for i, series in enumerate(panel.areas)]
    top = panel.y.top or top_of((sum(series.values[0] or 0.0 for series in panel.areas),), None)
    grid = Grid(panel.xs[0], panel.xs[-1], top, max(width - MARGIN - 2, 20))
    cells: Cells = {}
    for column in range(grid.width):
        index = round(column * (len(panel.xs) - 1) / (grid.width - 1))
        bottom, total = 0, 0.0
        for series, look in zip(panel.areas, looks, strict=True):
            total += series.values[index] or 0.0
            end = min(round(total / top * grid.height), grid.height)
            character = look.ascii_character if ascii_only else look.character
            cells |= {(column, row): (character, look.terminal_color) for row in range(bottom, end)}
            bottom = max(bottom, end)
    highest = max(panel.curve.ys, default=0.0)
    for x, y in zip(panel.curve.xs, panel.curve.ys, strict=True):
        cells[grid.column(x), round(y / (highest or 1.0) * (grid.height - 1))] = ("o", "bold")
    for x in panel.marks:
        cells[grid.column(x), grid.height - 1] = ("!", "bold red")
    _add_grid(text, cells, grid, panel.x.label, panel.y.label, ascii_only=ascii_only)
    _add_legend(text, [series.label for series in panel.areas], looks, ascii_only=ascii_only)
    text.append(f"{'':{MARGIN}} o {panel.curve.label}, at most {_number(highest)}\n")
    if panel.marks:
        text.append(f"{'':{MARGIN}} ! {panel.mark_label}\n")


def _add_bars(text: Text, panel: BarPanel, width: int, *, ascii_only: bool) -> None:
    """Draw horizontal bars: one row per group if they are stacked, else per value, with its number."""
    looks = [series.looks or (look_at(index),) for index, series in enumerate(panel.bars)]
    rows: list[tuple[str, list[tuple[float, Look]]]] = []
    for index, group in enumerate(panel.groups):
        name = " ".join(group.replace("-\n", "").split())
        values = [series.values[index] or 0.0 for series in panel.bars]
        parts = [(value, own[index % len(own)]) for value, own in zip(values, looks, strict=True)]
        labels = [f"{name} {series.label}".strip() for series in panel.bars]
        rows += [(name, parts)] if panel.is_stacked else [
            (label, [part]) for label, part in zip(labels, parts, strict=True)
        ]  # fmt: skip
    margin = max(len(name) for name, _ in rows) + 1
    highest = max(sum(value for value, _ in parts) for _, parts in rows)
    scale = max(width - margin - MARGIN, 20) / (panel.y.top or highest or 1.0)
    text.append(f"{panel.y.label}\n", style="dim")
    for name, parts in rows:
        text.append(f"{name:<{margin}}")
        total, end = 0.0, 0
        for value, look in parts:
            total += value
            character = "#" if ascii_only else "█"
            if panel.is_stacked:
                character = look.ascii_character if ascii_only else look.character
            text.append(character * (round(total * scale) - end), style=look.terminal_color)
            end = round(total * scale)
        text.append("\n" if panel.is_stacked else f" {number(total)}\n")
    if panel.is_stacked:
        labels, first = [series.label for series in panel.bars], [own[0] for own in looks]
        _add_legend(text, labels, first, ascii_only=ascii_only)


def _add_grid(
    text: Text, cells: Cells, grid: Grid, x_label: str, y_label: str, *, ascii_only: bool
) -> None:
    text.append(" ".join(y_label.split()) + "\n", style="dim")
    bar, corner, dash = ("|", "+", "-") if ascii_only else ("│", "└", "─")
    for row in reversed(range(grid.height)):
        text.append(f"{_y_number(row, grid):>{MARGIN}} {bar}", style="dim")
        for column in range(grid.width):
            text.append(*cells.get((column, row), (" ", "")))
        text.append("\n")
    text.append(f"{'':{MARGIN}} {corner}{dash * grid.width}\n", style="dim")
    middle = math.sqrt(grid.x_min * grid.x_max) if grid.is_log else (grid.x_min + grid.x_max) / 2
    half = grid.width // 2
    low = _number(grid.x_min)
    ends = f"{low}{_number(middle):>{half - len(low) + 1}}{_number(grid.x_max):>{grid.width - half}}"
    text.append(f"{'':{MARGIN}} {ends}\n{x_label:>{MARGIN + 2 + grid.width}}\n", style="dim")


def _add_legend(text: Text, labels: Sequence[str], looks: Sequence[Look], *, ascii_only: bool) -> None:
    for label, look in zip(labels, looks, strict=True):
        text.append(f"{'':{MARGIN}} {look.ascii_character if ascii_only else look.character} ",
                    style=look.terminal_color)  # fmt: skip
        text.append(f"{label}\n")


def _y_number(row: int, grid: Grid) -> str:
    """The number at a row: every fourth row and the top have one."""
    top = grid.height - 1
    return number(grid.y_max * row / top) if (row % 4 == 0 and row < top - 1) or row == top else ""


def _number(value: float) -> str:
    """A number as text; whole numbers have no decimals."""
    return number(int(value) if value == int(value) else value)
