"""Plots of saved runs with matplotlib, in the paper's axes: a figure each, the same bytes every time."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from pagedbench.show.curves import latency_panels, run_labels
from pagedbench.show.plot_kinds import PlotError
from pagedbench.show.styles import PART_STYLES, narrow, order_of, style_of
from pagedbench.show.terminal_plot import y_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pagedbench.runs.saved import SavedRun

PANEL_WIDTH, PANEL_HEIGHT = 4.2, 3.2
"""Inches."""

MAX_COLUMNS = 3
MAX_TIMELINE_POINTS = 1500
SETTINGS: Any = {
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "svg.hashsalt": "pagedbench",
    "svg.fonttype": "none",
}
"""Of matplotlib; names of elements in SVG do not change from run to run."""


def draw(kind: str, runs: Sequence[SavedRun], *, y_max: float | None) -> Figure:
    """The figure of a kind of plot.

    Args:
        y_max: top of the latency axis, in its unit; None: as high as the points.

    Raises:
        PlotError: the runs have nothing that this kind shows.
        ConfigError: a table of a run is damaged.
    """
    import matplotlib as mpl

    with mpl.rc_context(SETTINGS):
        ordered = sorted(runs, key=lambda run: (order_of(run.system), run.rate or 0.0))
        figure = _DRAWERS[kind](ordered, y_max)
    figure.set_layout_engine("constrained")
    return figure


def image(figure: Figure, kind: str) -> bytes:
    """The file of a figure: `kind` is "png" or "svg"."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    undated = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(SETTINGS):
        figure.savefig(buffer, format=kind, dpi=150, metadata=undated)
    return buffer.getvalue()


def _panels(number: int, *, width: float = PANEL_WIDTH) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    columns = min(number, MAX_COLUMNS)
    rows = math.ceil(number / columns)
    figure = Figure(figsize=(width * columns, PANEL_HEIGHT * rows))
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for spare in axes[number:]:
        spare.set_visible(False)
    return figure, axes[:number]


def _latency(runs: Sequence[SavedRun], y_max: float | None) -> Figure:
    panels = latency_panels(runs)
    figure, axes = _panels(len(panels))
    for panel, area in zip(panels, axes, strict=True):
        for curve in panel.curves:
            style = style_of(curve.system)
            rates, values = ([getattr(p, name) for p in curve.points] for name in ("rate", "value"))
            lows, highs = ([getattr(p, name) for p in curve.points] for name in ("low", "high"))
            area.plot(rates, values, color=style.color, marker=style.marker, label=curve.label, ms=5)
            if lows != highs:  # several seeds
                area.fill_between(rates, lows, highs, color=style.color, alpha=0.2, linewidth=0)
        area.set(title=panel.title, xlabel="Request rate (req/s)", ylabel="Normalized latency\n(s/token)")
        area.set_xlim(left=0)
        area.set_ylim(0, y_limit(panel.curves, y_max))
    handles = {
        label: handle
        for area in axes
        for handle, label in zip(*area.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), fontsize=8, loc="outside upper center", ncols=3)
    return figure


def _memory(runs: Sequence[SavedRun], y_max: float | None) -> Figure:
    figure, (area,) = _bars_area(len(runs))
    labels, bottom = _bar_labels(runs), [0.0] * len(runs)
    for part in PART_STYLES:
        column = f"kv_{part.part}_pct"
        heights = [_percent(run, column) for run in runs]
        area.bar(
            labels, heights, bottom=bottom, label=part.title, color=part.color, hatch=part.hatch,
            edgecolor="white", width=0.7,
        )  # fmt: skip
        for index, height in enumerate(heights):
            if height >= 4:  # percent; a label needs room
                middle = bottom[index] + height / 2
                area.text(index, middle, f"{height:.1f}", ha="center", va="center", fontsize=8,
                          bbox={"color": "white", "alpha": 0.7, "pad": 1})  # fmt: skip
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    area.set(ylabel="KV cache usage (%), mean over time", ylim=(0, 100))
    figure.legend(fontsize=8, loc="outside upper center", ncols=3)
    return figure


def _batch(runs: Sequence[SavedRun], y_max: float | None) -> Figure:
    figure, (area,) = _bars_area(len(runs))
    heights = [float(run.values["running_mean"] or 0) for run in runs]
    bars = area.bar(
        _bar_labels(runs), heights, width=0.7, color=[style_of(run.system).color for run in runs]
    )
    area.bar_label(bars, fmt="%.2f", fontsize=8)
    area.set(ylabel="# batched requests, mean over iterations")
    return figure


def _savings(runs: Sequence[SavedRun], y_max: float | None) -> Figure:
    shared = [run for run in runs if _percent(run, "kv_shared_saved_pct") > 0]
    if not shared:
        raise PlotError("no run shares blocks: savings need --n, --beam-width or a shared prefix")
    figure, (area,) = _bars_area(len(shared))
    heights = [_percent(run, "kv_shared_saved_pct") for run in shared]
    bars = area.bar(
        _bar_labels(shared), heights, width=0.7, color=[style_of(run.system).color for run in shared]
    )
    area.bar_label(bars, fmt="%.2f", fontsize=8)
    area.set(ylabel="Memory saving (%), mean over time")
    return figure


DISTRIBUTIONS = (
    ("normalized_latency_s", "Normalized latency (s/token)"),
    ("ttft_ms", "Time to first token (ms)"),
    ("tpot_ms", "Time per output token (ms)"),
)


def _cdf(runs: Sequence[SavedRun], y_max: float | None) -> Figure:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, axes = _panels(len(DISTRIBUTIONS))
    dashes = ("-", "--", ":", "-.")
    for (column, title), area in zip(DISTRIBUTIONS, axes, strict=True):
        seen: dict[str, int] = {}
        for run, label in zip(runs, run_labels(runs), strict=True):
            style, dash = style_of(run.system), dashes[seen.get(run.system, 0) % len(dashes)]
            seen[run.system] = seen.get(run.system, 0) + 1
            samples = run.requests[column].dropna()
            if len(samples):
                area.ecdf(samples, color=style.color, linestyle=dash, label=label)
        area.set(xscale="log", xlabel=title, ylabel="Share of requests", ylim=(0, 1))
        left, right = area.get_xlim()
        is_wide = right > 300 * left
        area.xaxis.set_major_locator(LogLocator(subs=(1.0,) if is_wide else (1.0, 2.0, 5.0), numticks=12))
        area.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        area.xaxis.set_minor_formatter(NullFormatter())
    axes[0].legend(fontsize=7)
    return figure


def _timeline(runs: Sequence[SavedRun], y_max: float | None) -> Figure:
    figure, axes = _panels(len(runs), width=1.3 * PANEL_WIDTH)
    for run, label, area in zip(runs, run_labels(runs), axes, strict=True):
        steps = run.steps.iloc[:: max(len(run.steps) // MAX_TIMELINE_POINTS, 1)]
        columns = [steps[f"kv_{part.part}"] for part in PART_STYLES]
        capacity = sum(columns)
        area.stackplot(
            steps["t_s"],
            *(100 * column / capacity for column in columns),
            colors=[part.color for part in PART_STYLES],
            labels=[part.title for part in PART_STYLES],
        )
        area.set(title=label, xlabel="Time (s)", ylabel="KV cache usage (%)", ylim=(0, 100))
        area.margins(x=0)
        waiting = area.twinx()
        waiting.plot(steps["t_s"], steps["waiting"], color="black", linewidth=0.8)
        waiting.set_ylabel("Waiting requests (line)")
        waiting.set_ylim(bottom=0)
        waiting.grid(visible=False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside upper center", ncols=len(PART_STYLES))
    return figure


def _bars_area(number: int) -> tuple[Figure, list[Axes]]:
    figure, axes = _panels(1, width=max(PANEL_WIDTH, number + 1))
    axes[0].tick_params(axis="x", labelsize=8)
    return figure, axes


def _bar_labels(runs: Sequence[SavedRun]) -> list[str]:
    """Below their bars, a fact a line."""
    labels = [label.replace(" ", "\n", 1).replace(", ", "\n") for label in run_labels(runs)]
    return [narrow(label) for label in labels]


def _percent(run: SavedRun, column: str) -> float:
    """Averaged over time, as in the tables; 0 where nothing ran."""
    return float(run.values.get(column) or 0.0)


_DRAWERS: dict[str, Callable[[Sequence[SavedRun], float | None], Figure]] = {
    "latency": _latency,
    "memory": _memory,
    "batch": _batch,
    "savings": _savings,
    "cdf": _cdf,
    "timeline": _timeline,
}
