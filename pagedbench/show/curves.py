"""What plots show, taken from saved runs: latency over rate by system, and runs told apart by labels."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from pagedbench.config import plain
from pagedbench.show.styles import order_of, style_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.runs.saved import SavedRun

PANEL_OPTIONS = ("model", "device", "trace", "n", "beam_width")
"""Runs that differ in one of these stand in different panels, as in the paper's Fig. 12 and 14."""

LINE_OPTIONS = ("memory", "batching", "block_size", "preemption", "prefill", "prefix_caching", "kv_slots",
                "tensor_parallel_size", "max_num_seqs", "max_num_batched_tokens", "label")  # fmt: skip
"""Runs of one system that differ in one of these make different lines."""


@dataclass(frozen=True, slots=True)
class Point:
    """One rate: the mean over seeds, and their range."""

    rate: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot: a system, and its points by rate."""

    label: str
    system: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves on one pair of axes."""

    title: str
    curves: tuple[Curve, ...]


def latency_panels(runs: Sequence[SavedRun], metric: str = "normalized_latency_mean_s") -> list[Panel]:
    """Curves of a metric over the rate; runs without a finite rate or without a value are left out."""
    usable = [run for run in runs if run.rate is not None and isfinite(run.rate)]
    usable = [run for run in usable if run.values.get(metric) is not None]
    panels: dict[tuple[Any, ...], list[SavedRun]] = defaultdict(list)
    for run in usable:
        panels[tuple(_option(run, name) for name in PANEL_OPTIONS)].append(run)
    titles = _titles(list(panels))
    return [
        Panel(title, tuple(_curves(members, metric)))
        for title, members in zip(titles, panels.values(), strict=True)
    ]


def _curves(runs: Sequence[SavedRun], metric: str) -> list[Curve]:
    lines: dict[tuple[str, tuple[Any, ...]], list[SavedRun]] = defaultdict(list)
    for run in runs:
        lines[run.system, tuple(_option(run, name) for name in LINE_OPTIONS)].append(run)
    several = {system for system, _ in lines if sum(other == system for other, _ in lines) > 1}
    curves = []
    for (system, options), members in lines.items():
        label = style_of(system).title if order_of(system) < order_of("other") else system
        if system in several:
            known = [other for name, other in lines if name == system]
            label += f" {_differences(options, known, LINE_OPTIONS)}"
        curves.append(Curve(label, system, _points(members, metric)))
    return sorted(curves, key=lambda curve: (order_of(curve.system), curve.label))


def _points(runs: Sequence[SavedRun], metric: str) -> tuple[Point, ...]:
    by_rate: dict[float, list[float]] = defaultdict(list)
    for run in runs:
        assert run.rate is not None, "left out before"
        by_rate[run.rate].append(float(run.values[metric]))
    return tuple(
        Point(rate, sum(values) / len(values), min(values), max(values))
        for rate, values in sorted(by_rate.items())
    )


def run_labels(runs: Sequence[SavedRun]) -> list[str]:
    """A name for every run among the others: its system, and the options in which they differ."""
    names = (*PANEL_OPTIONS, "rate", "seed", *LINE_OPTIONS)
    options = [tuple(_option(run, name) for name in names) for run in runs]
    return [
        " ".join([run.system, _differences(own, options, names)]).strip()
        for run, own in zip(runs, options, strict=True)
    ]


def _titles(panels: Sequence[tuple[Any, ...]]) -> list[str]:
    """Model and trace always; what else differs between panels too."""
    rest = tuple(name for name in PANEL_OPTIONS if name not in ("model", "trace"))
    facts = [dict(zip(PANEL_OPTIONS, panel, strict=True)) for panel in panels]
    others = [tuple(panel[name] for name in rest) for panel in facts]
    titles = []
    for panel, own in zip(facts, others, strict=True):
        extra = _differences(own, others, rest)
        title = f"{str(panel['model']).upper()}, {panel['trace']}"
        titles.append(f"{title}, {extra}" if extra else title)
    return titles


def _differences(own: tuple[Any, ...], all_of: Sequence[tuple[Any, ...]], names: Sequence[str]) -> str:
    """The options of one that are not those of all, in words."""
    words = []
    for index, name in enumerate(names):
        if len({str(other[index]) for other in all_of}) > 1 and own[index] is not None:
            is_clear = name in ("model", "device", "trace", "label", "memory", "batching", "preemption")
            value = plain(own[index])
            words.append(value if is_clear else f"{name.replace('_', ' ')} {value}")
    return ", ".join(words)


def _option(run: SavedRun, name: str) -> Any:
    """An option of a run; its trace by its own name, not by its file's path."""
    if name == "trace":
        return run.manifest["trace"]["name"]
    return run.config.get(name)
