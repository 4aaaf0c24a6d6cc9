"""Curve: the normalized latency of one system over the rate, and the rates that it sustains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.runs.bisection import bisect, rounded
from pagedbench.runs.criterion import UntilHopeless
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from pagedbench.tools.paper.experiment import Experiment
    from pagedbench.tools.paper.lengths import Lengths

THRESHOLDS = (0.25, 0.5, 1.0)
"""Seconds per token. The paper states no bound; its axis ends at 1.0, and 0.5 is half of that."""

THRESHOLD = 0.5
"""The bound at which ratios are claimed."""

TOLERANCE = 0.02
"""Relative width of the interval around a sustained rate."""

LOWEST_RATE = 0.002
FLAT_SHARES = (0.25, 0.5, 0.75, 0.9)
"""Shares of the lowest sustained rate that are also measured: the flat part of the curve."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run. `latency`: mean normalized latency in s/token; None if it is above every threshold."""

    rate: float
    latency: float | None
    num_requests: int
    running: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of one system and seed by rate; `sustained`: the highest rate tried at each threshold."""

    points: tuple[Point, ...]
    sustained: dict[float, float]


def measure_curve(
    experiment: Experiment, system: str, lengths: Lengths, seed: int, thresholds: tuple[float, ...]
) -> Curve:
    """Find the rates at which the mean normalized latency reaches each threshold.

    The search begins at the experiment's own rate. A run ends early when its mean can no longer stay below
    any threshold.
    """
    points: dict[float, Point] = {}

    def point(rate: float) -> Point:
        if rate not in points:
            points[rate] = _run(replace(experiment, rate=rate), system, lengths, seed, max(thresholds))
        return points[rate]

    sustained = {}
    for threshold in thresholds:

        def keeps(rate: float, threshold: float = threshold) -> bool:
            latency = point(rate).latency
            return latency is not None and latency <= threshold

        low, _ = bisect(keeps, start=experiment.rate, lowest=LOWEST_RATE, tolerance=TOLERANCE)
        sustained[threshold] = low or 0.0
    if len(thresholds) > 1:
        for share in FLAT_SHARES:
            point(rounded(share * sustained[thresholds[0]]))
    return Curve(tuple(points[rate] for rate in sorted(points)), sustained)


def mean_latency(experiment: Experiment, system: str, lengths: Lengths, seed: int) -> float:
    """Mean normalized latency of a whole run in s/token, over all requests."""
    requests = experiment.requests(lengths, seed)
    record = experiment.engine(system).run(FixedArrivals(requests))
    return float(record.latencies.normalized_latency.mean())


def _run(experiment: Experiment, system: str, lengths: Lengths, seed: int, threshold: float) -> Point:
    requests = experiment.requests(lengths, seed)
    engine = experiment.engine(system)
    source = UntilHopeless(FixedArrivals(requests), threshold, len(requests), engine.stop)
    record = engine.run(source)
    latency = None if source.is_hopeless else float(record.latencies.normalized_latency.mean())
    running = record.steps["running"]
    return Point(experiment.rate, latency, len(requests), float(running.mean()) if len(running) else 0.0)
