"""Charts as PNG and SVG, by matplotlib: equal charts give equal files."""

from __future__ import annotations

import importlib.util
import io
import textwrap
from typing import TYPE_CHECKING, Any

from pagedbench.config import ConfigError
from pagedbench.runs.machine import install_command
from pagedbench.show.charts import AreaPanel, LinePanel, top_of
from pagedbench.show.styles import look_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pagedbench.show.charts import Axis, BarPanel, Chart, Panel

PANEL_HEIGHT, MAX_COLUMNS = 3.2, 3
"""Inches per panel; most panels in a row."""

TITLE_WIDTH = 48
CHARACTER, HANDLE, LEGEND_ROW = 0.068, 0.55, 0.17
"""Inches of a legend: per character of a label, around a label, and per row."""

BAR_SPACE = 0.8
LOWEST_LABELLED = 4
"""A part of a stacked bar below this percentage has no room for its number."""

MANY_POINTS = 30
"""A line of more points has about ten markers instead of one at every point."""

SETTINGS: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "svg.hashsalt": "pagedbench",
    "svg.fonttype": "none",
}
"""Settings of matplotlib; the salt keeps the names of SVG elements the same from run to run."""


class PlotError(ConfigError):
    """A chart cannot be drawn: one sentence."""


def can_draw() -> bool:
    """Is matplotlib installed?"""
    return importlib.util.find_spec("matplotlib") is not None


def check_can_draw(instead: str) -> None:
    """Make sure that matplotlib is installed.

    Args:
        instead: an option that works without it.

    Raises:
        PlotError: it is not installed.
    """
    if not can_draw():
        install = install_command("matplotlib")
        raise PlotError(f"plots need matplotlib, which is missing: {install}; or use {instead}")


def image(chart: Chart, kind: str) -> bytes:
    """The chart as the content of a file: `kind` is "png" or "svg"."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    undated = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(SETTINGS):
        draw(chart).savefig(buffer, format=kind, dpi=150, metadata=undated)
    return buffer.getvalue()


def draw(chart: Chart) -> Figure:
    """The chart as a figure of matplotlib, with one legend for all panels."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = min(len(chart.panels), MAX_COLUMNS)
    rows = -(-len(chart.panels) // columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(chart.panel_width * columns, PANEL_HEIGHT * rows))
        axes: list[Axes] = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
        for spare in axes[len(chart.panels) :]:
            spare.set_visible(False)
        for panel, area in zip(chart.panels, axes, strict=False):
            _draw_panel(panel, area)
            area.set_title(textwrap.fill(panel.title, TITLE_WIDTH))
        _add_legend(figure)
    figure.set_layout_engine("constrained")
    return figure


def _draw_panel(panel: Panel, area: Axes) -> None:
    if isinstance(panel, LinePanel):
        _draw_lines(panel, area)
    elif isinstance(panel, AreaPanel):
        _draw_areas(panel, area)
    else:
        _draw_bars(panel, area)


def _draw_lines(panel: LinePanel, area: Axes) -> None:
    for index, line in enumerate(panel.lines):
        look = line.look or look_at(index)
        is_long = len(line.xs) > MANY_POINTS
        area.plot(
            line.xs, line.ys, color=look.color, marker=look.marker, label=line.label, ms=4,
            linestyle=(0, look.dash) if look.dash else "-", markevery=0.1 if is_long else None,
            drawstyle="steps-post" if line.is_stepped else "default",
        )  # fmt: skip
        if line.lows != line.highs:
            area.fill_between(line.xs, line.lows, line.highs, color=look.color, alpha=0.2, linewidth=0)
    _set_x_axis(panel, area)
    area.set_ylabel(panel.y.label)
    if panel.y.is_log:
        area.set_yscale("log")
    else:
        area.set_ylim(0, top_of((y for line in panel.lines for y in line.ys), panel.y.top))


def _set_x_axis(panel: LinePanel, area: Axes) -> None:
    """A logarithmic axis labels its points if they are few, otherwise 1, 2, 5, 10 and so on."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    area.set_xlabel(panel.x.label)
    if not panel.x.is_log:
        area.set_xlim(left=0)
        return
    area.set_xscale("log")
    points = sorted({x for line in panel.lines for x in line.xs})
    if len(points) <= MANY_POINTS // 2:
        area.set_xticks(points, [f"{point:g}" for point in points])
        area.minorticks_off()
        return
    left, right = area.get_xlim()
    steps = (1.0,) if right > 300 * left else (1.0, 2.0, 5.0)
    area.xaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
    area.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    area.xaxis.set_minor_formatter(NullFormatter())


def _draw_bars(panel: BarPanel, area: Axes) -> None:
    bottoms = [0.0] * len(panel.groups)
    width = BAR_SPACE / (1 if panel.is_stacked else len(panel.bars))
    for index, series in enumerate(panel.bars):
        looks = series.looks or (look_at(index),)
        shift = 0.0 if panel.is_stacked else (index - (len(panel.bars) - 1) / 2) * width
        present = {group: value for group, value in enumerate(series.values) if value is not None}
        bars = area.bar(
            [group + shift for group in present], list(present.values()), width, label=series.label,
            color=[looks[group % len(looks)].color for group in present], hatch=looks[0].hatch,
            bottom=[bottoms[group] for group in present], edgecolor="white",
        )  # fmt: skip
        if panel.is_stacked:
            labels = [f"{height:.1f}" if height >= LOWEST_LABELLED else "" for height in present.values()]
            box = {"color": "white", "alpha": 0.7, "pad": 1}
            for text in area.bar_label(bars, labels, fontsize=7, label_type="center"):
                text.set_bbox(box if text.get_text() else None)
            for group, height in present.items():
                bottoms[group] += height
        else:
            area.bar_label(bars, fmt="%.3g", fontsize=7)
    area.set_xticks(range(len(panel.groups)), panel.groups, fontsize=8)
    area.set_xlabel(panel.x_label)
    _set_y_axis(panel.y, area)


def _draw_areas(panel: AreaPanel, area: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    looks = [series.looks[0] if series.looks else look_at(i) for i, series in enumerate(panel.areas)]
    values = [[value or 0.0 for value in series.values] for series in panel.areas]
    area.stackplot(
        panel.xs, values, colors=[look.color for look in looks],
        labels=[series.label for series in panel.areas],
    )  # fmt: skip
    area.set_xlabel(panel.x.label)
    _set_y_axis(panel.y, area)
    area.set_xlim(panel.xs[0], panel.xs[-1])
    if panel.marks:
        heights = [0.98] * len(panel.marks)  # of the axis
        area.plot(
            panel.marks, heights, "v", color="black", ms=4, label=panel.mark_label,
            transform=area.get_xaxis_transform(),
        )  # fmt: skip
    right = area.twinx()
    right.plot(panel.curve.xs, panel.curve.ys, color="black", linewidth=0.8, label=panel.curve.label)
    right.set_ylabel(panel.curve.label)
    right.set_ylim(0, top_of(panel.curve.ys, None))
    right.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    right.grid(visible=False)


def _set_y_axis(axis: Axis, area: Axes) -> None:
    area.set_ylabel(axis.label)
    if axis.top is not None:
        area.set_ylim(0, axis.top)


def _add_legend(figure: Figure) -> None:
    """One legend for all panels, with as many columns as fit; the figure grows by the legend's height."""
    handles = {
        label: handle
        for area in figure.axes
        for handle, label in zip(*area.get_legend_handles_labels(), strict=True)
    }
    if len(handles) < 2:
        return
    width, height = figure.get_size_inches()
    widest = CHARACTER * max(map(len, handles)) + HANDLE
    columns = max(1, min(len(handles), int(width / widest)))
    figure.set_size_inches(width, height + LEGEND_ROW * -(-len(handles) // columns))
    figure.legend(
        list(handles.values()), list(handles), fontsize=8, loc="outside upper center", ncols=columns
    )
