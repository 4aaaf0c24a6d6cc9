"""Charts: lines and bars as plain data, and how matplotlib draws them; the paper's figures use them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.show.styles import OTHER, SYSTEM_STYLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_WIDTH, PANEL_HEIGHT = 4.2, 3.2
"""Inches."""

MAX_COLUMNS = 3
BAR_SPACE = 0.8
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = "os^vDP*"


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `system`: gives it colour and marker; None: the next free ones."""

    label: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    system: str | None = None
    is_dashed: bool = False


@dataclass(frozen=True, slots=True)
class LinePanel:
    """Lines on one pair of axes; `y_max` cuts the picture, not the data."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    y_max: float | None = None
    x_log: bool = False
    y_log: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """The values of all groups that have the same meaning, in one colour; None: no bar.

    `system`: gives them its colour, unless they have one of their own.
    """

    label: str
    values: tuple[float | None, ...]
    system: str | None = None
    color: str | None = None


@dataclass(frozen=True, slots=True)
class BarPanel:
    """Groups of bars side by side, or on top of each other."""

    title: str
    y_label: str
    groups: tuple[str, ...]
    bars: tuple[Bars, ...]
    is_stacked: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of one or more panels."""

    panels: tuple[LinePanel | BarPanel, ...]


def draw_chart(chart: Chart) -> Figure:
    """With matplotlib, the same every time."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from pagedbench.show.plots import SETTINGS

    with mpl.rc_context(SETTINGS):
        columns = min(len(chart.panels), MAX_COLUMNS)
        rows = -(-len(chart.panels) // columns)
        figure = Figure(figsize=(PANEL_WIDTH * columns, PANEL_HEIGHT * rows))
        areas: list[Axes] = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
        for spare in areas[len(chart.panels) :]:
            spare.set_visible(False)
        for panel, area in zip(chart.panels, areas, strict=False):
            if isinstance(panel, LinePanel):
                _draw_lines(panel, area)
            else:
                _draw_bars(panel, area)
        _add_legend(figure, areas[: len(chart.panels)])
    figure.set_layout_engine("constrained")
    return figure


def _draw_lines(panel: LinePanel, area: Axes) -> None:
    for index, line in enumerate(panel.lines):
        color, marker = _look(line.system, index)
        area.plot(
            line.xs, line.ys, color=color, marker=marker, label=line.label, ms=4,
            linestyle="--" if line.is_dashed else "-",
        )  # fmt: skip
    area.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.x_log:
        area.set_xscale("log", base=2)
        ticks = sorted({x for line in panel.lines for x in line.xs})
        area.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        area.minorticks_off()
    else:
        area.set_xlim(left=0)
    if panel.y_log:
        area.set_yscale("log")
    else:
        area.set_ylim(0, panel.y_max)


def _draw_bars(panel: BarPanel, area: Axes) -> None:
    bottoms = [0.0] * len(panel.groups)
    width = BAR_SPACE / (1 if panel.is_stacked else len(panel.bars))
    for index, bars in enumerate(panel.bars):
        color, _ = _look(bars.system, index)
        shift = 0.0 if panel.is_stacked else (index - (len(panel.bars) - 1) / 2) * width
        present = [i for i, value in enumerate(bars.values) if value is not None]
        heights = [value for value in bars.values if value is not None]
        drawn = area.bar(
            [i + shift for i in present], heights, width, label=bars.label, color=bars.color or color,
            bottom=[bottoms[i] for i in present], edgecolor="white",
        )  # fmt: skip
        is_inside = panel.is_stacked
        labels = ["" if is_inside and height < 4 else f"{height:.3g}" for height in heights]
        area.bar_label(drawn, labels, fontsize=7, label_type="center" if is_inside else "edge")
        if panel.is_stacked:
            for i, height in zip(present, heights, strict=True):
                bottoms[i] += height
    area.set_xticks(range(len(panel.groups)), panel.groups, fontsize=8)
    area.set(title=panel.title, ylabel=panel.y_label)


def _look(system: str | None, index: int) -> tuple[str, str]:
    """Colour and marker."""
    if system is None:
        return COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
    style = SYSTEM_STYLES.get(system, OTHER)
    return style.color, style.marker


def _add_legend(figure: Figure, areas: Sequence[Axes]) -> None:
    """One for all panels."""
    handles = {
        label: handle
        for area in areas
        for handle, label in zip(*area.get_legend_handles_labels(), strict=True)
    }
    if len(handles) > 1:
        figure.legend(
            list(handles.values()), list(handles), fontsize=8, loc="outside upper center", ncols=3
        )
