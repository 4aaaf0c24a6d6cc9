"""Charts as plain data: lines, bars and stacked areas on axes with names and units.

`drawing` draws them as PNG and SVG, `terminal_plot` with characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pagedbench.show.styles import look_of, title_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pagedbench.show.styles import Look

    Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis. `top`: where the picture is cut off if values reach it; None: it is not cut off."""

    label: str
    is_log: bool = False
    top: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `look`: None takes the next free one; `lows`, `highs`: a range around every point."""

    label: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    look: Look | None = None
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    is_stepped: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one kind, one per bar or moment; None: no bar. `looks`: a single one, or one per bar."""

    label: str
    values: tuple[float | None, ...]
    looks: tuple[Look, ...] = ()


@dataclass(frozen=True, slots=True)
class LinePanel:
    """Lines on one pair of axes."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class BarPanel:
    """Groups of bars, side by side or stacked. A group's name may have several lines."""

    title: str
    y: Axis
    groups: tuple[str, ...]
    bars: tuple[Series, ...]
    is_stacked: bool = False
    x_label: str = ""


@dataclass(frozen=True, slots=True)
class AreaPanel:
    """Stacked areas over time.

    Attributes:
        xs: the moments.
        curve: a line with its own labelled axis at the right.
        marks: moments of events, named by `mark_label`.
    """

    title: str
    x: Axis
    y: Axis
    xs: tuple[float, ...]
    areas: tuple[Series, ...]
    curve: Line
    marks: tuple[float, ...] = ()
    mark_label: str = ""


Panel: TypeAlias = LinePanel | BarPanel | AreaPanel


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of one or more panels. `panel_width`: inches."""

    panels: tuple[Panel, ...]
    panel_width: float = 4.2


def lines_of(rows: Iterable[Row], x: str, y: str, by: str) -> tuple[Line, ...]:
    """The rows of a table as lines, one for every value of the column `by`: systems with their looks.

    Rows without a value of `y` are left out.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[by], []).extend([row] if row[y] is not None else [])
    return tuple(
        Line(title_of(name), tuple(row[x] for row in own), tuple(row[y] for row in own), look_of(name))
        for name, own in groups.items()
    )


def bars_of(rows: Sequence[Row], group: str, value: str, by: str) -> tuple[Series, ...]:
    """The rows of a table as bars: a series for every value of the column `by`, a bar per group."""
    groups = tuple(dict.fromkeys(row[group] for row in rows))
    values = {(row[by], row[group]): row[value] for row in rows}
    series = []
    for name in dict.fromkeys(row[by] for row in rows):
        look = look_of(name)
        heights = tuple(values.get((name, key)) for key in groups)
        series.append(Series(title_of(name), heights, (look,) if look else ()))
    return tuple(series)


def top_of(values: Iterable[float], most: float | None) -> float:
    """The top of an axis: a little above the highest value, but not above `most`."""
    highest = max(values, default=0.0) or 1.0
    return 1.1 * highest if most is None else min(1.1 * highest, most)
