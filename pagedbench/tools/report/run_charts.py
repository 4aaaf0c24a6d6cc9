"""Charts of saved runs: latency over what was swept, memory, batches, savings, distributions, timelines."""

from __future__ import annotations

from collections import defaultdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from pagedbench.show.charts import AreaPanel, Axis, BarPanel, Chart, Line, LinePanel, Series
from pagedbench.show.drawing import PlotError
from pagedbench.show.styles import OTHER, PARTS, look_at, look_of, narrow, order_of, title_of, variant
from pagedbench.tools.report.run_labels import (
    LINE_OPTIONS,
    PANEL_OPTIONS,
    differences,
    in_order,
    natural,
    options_of,
    run_labels,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pagedbench.runs.saved import SavedRun
    from pagedbench.show.styles import Look

    Options = tuple[Any, ...]

LATENCY = "normalized_latency_mean_s"
Y_MAX = 1.0
"""Seconds per token at which the paper cuts its latency axes."""

SWEPT = {
    "rate": "Request rate (req/s)",
    "block_size": "Block size (tokens)",
    "kv_slots": "KV pool (tokens)",
    "max_num_seqs": "Maximum number of sequences",
    "max_num_batched_tokens": "Token budget per iteration",
    "n": "Parallel samples",
    "beam_width": "Beam width",
    "tensor_parallel_size": "Tensor-parallel ranks",
}
"""Options that can be the x axis of latency, the most common first."""

WIDE_RANGE = 8
"""An axis whose highest value is this many times the lowest is logarithmic; that of rates never is."""

DISTRIBUTIONS = {
    "normalized_latency_s": "Normalized latency (s/token)",
    "ttft_ms": "Time to first token (ms)",
    "tpot_ms": "Time per output token (ms)",
}
MAX_TIMELINE_POINTS = 1500

KINDS = {
    "latency": "mean normalized latency over what was swept, as over the rate in Fig. 12, 14, 16 and 17",
    "memory": "what the KV pool held, averaged over time (Fig. 2 averages over iterations)",
    "batch": "requests in an iteration, averaged over iterations (Fig. 13)",
    "savings": "blocks saved by sharing, averaged over time (Fig. 15 averages over iterations)",
    "cdf": "distributions of latencies over requests",
    "timeline": "the KV pool, the queue and preemptions over time",
}
"""Name -> what it shows; figures by their numbers in the paper."""

MAX_RUNS = {"memory": 30, "batch": 30, "savings": 30, "cdf": 12, "timeline": 6}
"""Name -> the most runs in a readable chart."""

OF_ENGINES = ("memory", "batch", "savings", "timeline")
"""Charts of what a client of a server cannot see, without runs against servers."""


def chart_of(kind: str, runs: Sequence[SavedRun], *, y_max: float | None = Y_MAX) -> Chart:
    """The chart of a kind.

    Args:
        y_max: top of the latency axis in s/token, where a curve reaches it; None: as high as the points.

    Raises:
        PlotError: there is no such kind, or there are too many runs or none with the necessary values.
        ConfigError: a table of a run is damaged.
    """
    if kind not in KINDS:
        raise PlotError(f"unknown plot {kind!r}: choose from {', '.join(KINDS)}")
    if len(runs) > MAX_RUNS.get(kind, len(runs)):
        raise PlotError(
            f"{kind} shows at most {MAX_RUNS[kind]} runs, and there are {len(runs)}: name fewer folders"
        )
    ordered = in_order(runs)
    if kind in OF_ENGINES:
        ordered = [run for run in ordered if not run.is_of_server]
        if not ordered:
            raise PlotError(f"{kind} is about memory and iterations, which a client of a server cannot see")
    return _latency(ordered, y_max) if kind == "latency" else _BUILDERS[kind](ordered)


def fitting_kinds(runs: Sequence[SavedRun]) -> list[str]:
    """The kinds that are worth drawing when the user names none."""
    fits = {
        "latency": swept_option(runs) is not None and any(run.values.get(LATENCY) for run in runs),
        **dict.fromkeys(OF_ENGINES, not all(run.is_of_server for run in runs)),
        "timeline": any(run.values["num_steps"] for run in runs),
        "savings": any(_percent(run, "kv_shared_saved_pct") > 0 for run in runs),
    }
    return [kind for kind in KINDS if fits.get(kind, True) and len(runs) <= MAX_RUNS.get(kind, len(runs))]


def swept_option(runs: Sequence[SavedRun]) -> str | None:
    """The first option in `SWEPT` that has several finite values, or None."""
    for name in SWEPT:
        if len({value for run in runs if (value := _number(run, name)) is not None}) > 1:
            return name
    return None


def _number(run: SavedRun, name: str) -> float | None:
    """A numeric option of a run; its rate is None if the times are the trace's own."""
    value = run.rate if name == "rate" else run.config.get(name)
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _latency(runs: Sequence[SavedRun], y_max: float | None) -> Chart:
    """Lines over the option that was swept; without one, a bar per run."""
    usable = [run for run in runs if run.values.get(LATENCY) is not None]
    if not usable:
        raise PlotError("latency needs runs with completed requests: name others")
    swept = swept_option(usable)
    if swept is None:
        return _bars(usable, Axis("Mean normalized latency (s/token)"), lambda run: run.values[LATENCY])
    return Chart(tuple(latency_panels(usable, swept, y_max)))


def latency_panels(runs: Sequence[SavedRun], swept: str, y_max: float | None) -> list[LinePanel]:
    """Mean normalized latency over an option; runs without a finite value of it are left out."""
    names = tuple(name for name in PANEL_OPTIONS if name != swept)
    panels: dict[Options, list[SavedRun]] = defaultdict(list)
    for run, options in zip(runs, options_of(runs, names), strict=True):
        if _number(run, swept) is not None:
            panels[options].append(run)
    values = {_number(run, swept) or 0.0 for members in panels.values() for run in members}
    is_log = swept != "rate" and min(values) > 0 and max(values) >= WIDE_RANGE * min(values)
    y = Axis("Normalized latency\n(s/token)", top=y_max)
    return [
        LinePanel(_panel_title(own, list(panels), names), Axis(SWEPT[swept], is_log), y,
                  _lines(members, swept))
        for own, members in panels.items()
    ]  # fmt: skip


def _panel_title(own: Options, every: Sequence[Options], names: Sequence[str]) -> str:
    """Model and trace always; other options if panels differ in them."""
    facts = dict(zip(names, own, strict=True))
    title = f"{str(facts['model']).upper()}, {facts['trace']}"
    indices = [index for index, name in enumerate(names) if name not in ("model", "trace")]
    others = [[options[index] for index in indices] for options in every]
    extra = differences([own[index] for index in indices], others, [names[index] for index in indices])
    return f"{title}, {extra}" if extra else title


def _lines(runs: Sequence[SavedRun], swept: str) -> tuple[Line, ...]:
    """One line per system and set of its other options: the mean over seeds, with their range."""
    names = tuple(name for name in ("rate", *LINE_OPTIONS) if name != swept)
    systems: dict[str, dict[Options, list[SavedRun]]] = defaultdict(lambda: defaultdict(list))
    for run, options in zip(runs, options_of(runs, names), strict=True):
        systems[run.system][options].append(run)
    lines = []
    for system in sorted(systems, key=order_of):
        variants = sorted(systems[system], key=natural)
        for index, options in enumerate(variants):
            words = differences(options, variants, names)
            label = f"{title_of(system)} {words}" if words else title_of(system)
            look = _look(system, index, is_alone=len(systems) == 1 and len(variants) > 1)
            lines.append(_line(label, systems[system][options], swept, look))
    return tuple(lines)


def _look(system: str, index: int, *, is_alone: bool) -> Look:
    """The look of a line. Variants of a single system differ in colour too."""
    return look_at(index) if is_alone else variant(look_of(system) or OTHER, index)


def _line(label: str, runs: Sequence[SavedRun], swept: str, look: Look) -> Line:
    by_x: dict[float, list[float]] = defaultdict(list)
    for run in runs:
        by_x[_number(run, swept) or 0.0].append(float(run.values[LATENCY]))
    xs = tuple(sorted(by_x))
    means, lows, highs = (
        tuple(reduce(by_x[x]) for x in xs) for reduce in (lambda own: sum(own) / len(own), min, max)
    )
    return Line(label, xs, means, look, lows, highs)


def _bars(runs: Sequence[SavedRun], axis: Axis, value: Callable[[SavedRun], float | None]) -> Chart:
    """One bar per run, in the colour of its system."""
    looks = tuple(look_of(run.system) or OTHER for run in runs)
    series = Series("", tuple(float(value(run) or 0.0) for run in runs), looks)
    return Chart((BarPanel("", axis, _bar_names(runs), (series,)),), _bars_width(runs))


def _memory(runs: Sequence[SavedRun]) -> Chart:
    parts = tuple(
        Series(title, tuple(_percent(run, f"kv_{part}_pct") for run in runs), (look,))
        for part, (title, look) in PARTS.items()
    )
    axis = Axis("KV cache usage (%), mean over time", top=100)
    return Chart((BarPanel("", axis, _bar_names(runs), parts, is_stacked=True),), _bars_width(runs))


def _batch(runs: Sequence[SavedRun]) -> Chart:
    axis = Axis("Batched requests, mean over iterations")
    return _bars(runs, axis, lambda run: run.values["running_mean"])


def _savings(runs: Sequence[SavedRun]) -> Chart:
    shared = [run for run in runs if _percent(run, "kv_shared_saved_pct") > 0]
    if not shared:
        raise PlotError("no run shares blocks: savings need --n, --beam-width or a shared prefix")
    axis = Axis("Memory saving (%), mean over time")
    return _bars(shared, axis, lambda run: _percent(run, "kv_shared_saved_pct"))


def _cdf(runs: Sequence[SavedRun]) -> Chart:
    systems, seen = [run.system for run in runs], defaultdict[str, int](int)
    looks = []
    for system in systems:
        looks.append(_look(system, seen[system], is_alone=len(set(systems)) == 1))
        seen[system] += 1
    return Chart(
        tuple(
            LinePanel("", Axis(title, is_log=True), Axis("Share of requests", top=1.0),
                      tuple(_distribution(run, label, column, look)
                            for run, label, look in zip(runs, run_labels(runs), looks, strict=True)))
            for column, title in DISTRIBUTIONS.items()
        )
    )  # fmt: skip


def _distribution(run: SavedRun, label: str, column: str, look: Look) -> Line:
    xs = tuple(run.requests[column].dropna().sort_values().tolist())
    return Line(label, xs, tuple((i + 1) / len(xs) for i in range(len(xs))), look, is_stepped=True)


def _timeline(runs: Sequence[SavedRun]) -> Chart:
    runs = [run for run in runs if run.values["num_steps"]]
    if not runs:
        raise PlotError("timeline needs runs with iterations: name others")
    panels = zip(runs, run_labels(runs), strict=True)
    return Chart(tuple(_run_timeline(run, label) for run, label in panels), panel_width=5.5)


def _run_timeline(run: SavedRun, label: str) -> AreaPanel:
    steps = run.steps.iloc[:: max(len(run.steps) // MAX_TIMELINE_POINTS, 1)]
    columns = {part: steps[f"kv_{part}"] for part in PARTS}
    capacity = sum(columns.values())
    areas = tuple(
        Series(title, tuple((100 * columns[part] / capacity).tolist()), (look,))
        for part, (title, look) in PARTS.items()
    )
    times = tuple(steps["t_s"].tolist())
    waiting = Line("Waiting requests", times, tuple(map(float, steps["waiting"])))
    happened = run.steps["preemptions_recompute"] + run.steps["preemptions_swap"] > 0
    marks = tuple(run.steps["t_s"][happened].tolist())
    axis = Axis("KV cache usage (%)", top=100)
    return AreaPanel(label, Axis("Time (s)"), axis, times, areas, waiting, marks, "Preemption")


def _bars_width(runs: Sequence[SavedRun]) -> float:
    return max(4.2, len(runs) + 1)


def _bar_names(runs: Sequence[SavedRun]) -> tuple[str, ...]:
    """Names below bars, one fact per line."""
    names = [label.replace(" ", "\n", 1).replace(", ", "\n") for label in run_labels(runs)]
    return tuple(map(narrow, names))


def _percent(run: SavedRun, column: str) -> float:
    """Averaged over time, as in the tables; 0 where nothing ran."""
    return float(run.values.get(column) or 0.0)


_BUILDERS: dict[str, Callable[[Sequence[SavedRun]], Chart]] = {
    "memory": _memory,
    "batch": _batch,
    "savings": _savings,
    "cdf": _cdf,
    "timeline": _timeline,
}
