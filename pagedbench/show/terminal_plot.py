"""Curves in a terminal: characters on a grid, with axes and a legend; needs no library."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import number
from pagedbench.show.styles import style_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from pagedbench.show.curves import Curve, Panel

HEIGHT = 18
MARGIN = 8
"""Characters to the left of the axis, for its figures."""

STEEPEST = 50
"""Heights of the grid that a line may climb and still be drawn without gaps."""


@dataclass(frozen=True, slots=True)
class Axes:
    """The ranges that are shown, from 0, and the size of the grid in characters."""

    x_max: float
    y_max: float
    width: int
    height: int

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Column and row of a point, row 0 at the bottom; rows may lie above the grid."""
        return (
            round(x / self.x_max * (self.width - 1)),
            round(min(y / self.y_max, 1e6) * (self.height - 1)),
        )


def y_limit(curves: Sequence[Curve], most: float | None) -> float:
    """The top of the axis: a little above the highest point, but not above `most`."""
    highest = max((point.value for curve in curves for point in curve.points), default=1.0)
    return 1.1 * highest if most is None or highest <= most else most


def terminal_plot(
    panel: Panel, *, x_label: str, y_label: str, y_max: float | None, width: int, ascii_only: bool
) -> Text:
    """One panel, `width` characters wide. Lines run off the top above `y_max`."""
    from rich.text import Text

    x_max = max((point.rate for curve in panel.curves for point in curve.points), default=1.0)
    axes = Axes(x_max, y_limit(panel.curves, y_max), max(width - MARGIN - 2, 20), HEIGHT)
    grid: dict[tuple[int, int], tuple[str, str]] = {}
    for curve in panel.curves[::-1]:  # the first one lies on top
        _draw(grid, curve, axes, ascii_only=ascii_only)
    text = Text(f"{panel.title}\n", style="bold")
    text.append(f"{y_label}\n", style="dim")
    bar, corner, dash = ("|", "+", "-") if ascii_only else ("│", "└", "─")
    for row in reversed(range(axes.height)):
        text.append(f"{_y_figure(row, axes):>{MARGIN}} {bar}", style="dim")
        for column in range(axes.width):
            text.append(*grid.get((column, row), (" ", "")))
        text.append("\n")
    text.append(f"{'':{MARGIN}} {corner}{dash * axes.width}\n", style="dim")
    text.append(_x_figures(axes, x_label), style="dim")
    for curve in panel.curves:
        style = style_of(curve.system)
        character = style.ascii_character if ascii_only else style.character
        text.append(f"{'':{MARGIN}} {character} ", style=style.terminal_style)
        text.append(f"{curve.label}\n")
    return text


def _draw(
    grid: dict[tuple[int, int], tuple[str, str]], curve: Curve, axes: Axes, *, ascii_only: bool
) -> None:
    """A dotted line through the points, then the markers over it."""
    style = style_of(curve.system)
    dot = "." if ascii_only else "·"
    cells = [axes.cell(point.rate, point.value) for point in curve.points]
    for (x0, y0), (x1, y1) in itertools.pairwise(cells):
        length = max(x1 - x0, min(abs(y1 - y0), STEEPEST * axes.height), 1)
        for step in range(length + 1):
            row = y0 + round((y1 - y0) * step / length)
            if row < axes.height:
                grid[x0 + round((x1 - x0) * step / length), row] = (dot, style.terminal_style)
    marker = style.ascii_character if ascii_only else style.character
    for column, row in cells:
        if row < axes.height:
            grid[column, row] = (marker, style.terminal_style)


def _y_figure(row: int, axes: Axes) -> str:
    """A figure at every fourth row, and at the top."""
    top = axes.height - 1
    return number(axes.y_max * row / top) if (row % 4 == 0 and row < top - 1) or row == top else ""


def _x_figures(axes: Axes, label: str) -> str:
    """The ends of the axis and its middle, and what it shows."""
    middle, end = number(axes.x_max / 2), number(axes.x_max)
    half = axes.width // 2
    line = f"{'':{MARGIN}} 0{middle:>{half}}{end:>{axes.width - half}}\n"
    return f"{line}{label:>{MARGIN + 2 + axes.width}}\n"
