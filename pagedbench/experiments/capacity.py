"""Capacity: the highest rate that a system sustains under a latency bound, found by bisection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.backend import load_backend
from pagedbench.experiments.criterion import UntilHopeless
from pagedbench.experiments.limits import find_limit
from pagedbench.experiments.parallel import stopping
from pagedbench.experiments.traces import trace_of
from pagedbench.metrics.validity import validity

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.backend import Backend
    from pagedbench.experiments.criterion import Criterion
    from pagedbench.experiments.limits import Limit
    from pagedbench.experiments.parallel import Stop
    from pagedbench.plan import Plan
    from pagedbench.workload.dataset import Dataset

MIN_REQUESTS = 10
"""A run of fewer says nothing about a rate."""

MAX_RATE = 4096.0
"""Requests per second at which the search gives up: nothing limits the system."""

DIGITS = 4
"""Of a rate that is tried, so that `run --rate` can repeat it."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One run of the search.

    Attributes:
        figures: what the criterion looks at: means in seconds, or a share; None if the run was ended
            early because it could no longer keep any bound.
        running_mean: requests in an iteration.
        valid: as in summary.csv; a run that was ended early cannot be invalid.
    """

    rate: float
    num_requests: int
    figures: tuple[float, ...] | None
    limit: Limit
    running_mean: float
    valid: bool


@dataclass(frozen=True, slots=True)
class Capacity:
    """Between which rates a criterion's limit lies, in requests per second.

    Attributes:
        sustained: the highest rate tried that keeps the bounds; None: not even the lowest does.
        missed: the lowest rate tried that does not; None: every rate does.
    """

    criterion: Criterion
    sustained: Probe | None
    missed: Probe | None

    @property
    def rate(self) -> float:
        """What is reported: the sustained rate, 0 if there is none."""
        return self.sustained.rate if self.sustained else 0.0

    @property
    def limit(self) -> Limit | None:
        """What limits it: seen in the run that failed."""
        return self.missed.limit if self.missed else None


@dataclass(frozen=True, slots=True)
class Search:
    """The capacity of one system on one trace and seed, for several criteria over the same runs.

    Attributes:
        criteria: all of one kind, differing in their limits.
        tolerance: relative width of the interval at which the search ends.
        start: the rate tried first.
    """

    plan: Plan
    dataset: Dataset
    criteria: tuple[Criterion, ...]
    tolerance: float
    start: float

    @property
    def min_rate(self) -> float:
        """Below it, too few requests come within the run."""
        duration = self.plan.config.duration
        return MIN_REQUESTS / duration if duration is not None else 1 / MAX_RATE


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search: a capacity for every criterion, and every run made, by rate."""

    capacities: tuple[Capacity, ...]
    probes: tuple[Probe, ...]


def bisect(
    is_sustained: Callable[[float], bool], *, start: float, lowest: float, tolerance: float
) -> tuple[float | None, float | None]:
    """The interval of rates around the limit: the last that holds, and the first that does not.

    Doubles or halves from `start` until the limit is between two rates, then halves the interval on a
    logarithmic scale until its ends differ by less than `tolerance`, relatively. None: there is no such
    rate between `lowest` and `MAX_RATE`.
    """
    low: float | None = None
    high: float | None = None
    rate = start
    while low is None or high is None:
        if is_sustained(rate):
            low = rate
            rate = rounded(2 * rate)
        else:
            high = rate
            rate = rounded(rate / 2)
        if (high is None and rate > MAX_RATE) or (low is None and rate < lowest):
            return low, high
    while high > low * (1 + tolerance):
        middle = rounded(math.sqrt(low * high))
        if not low < middle < high:
            break
        if is_sustained(middle):
            low = middle
        else:
            high = middle
    return low, high


def rounded(rate: float) -> float:
    """A rate that can be typed."""
    return float(f"{rate:.{DIGITS}g}")


def search_capacity(search: Search, stop: Stop) -> Found | None:
    """Find a capacity for every criterion; None if `stop` ended the search."""
    backend = load_backend(search.plan)
    backend.warm_up(search.plan)
    probes: dict[float, Probe] = {}

    def probe(rate: float) -> Probe:
        if rate not in probes:
            probes[rate] = run_probe(search, backend, rate, stop)
        if stop.is_set():
            raise _Stopped
        return probes[rate]

    capacities = []
    try:
        for criterion in search.criteria:

            def is_sustained(rate: float, criterion: Criterion = criterion) -> bool:
                figures = probe(rate).figures
                return figures is not None and criterion.is_met(figures)

            low, high = bisect(
                is_sustained, start=search.start, lowest=search.min_rate, tolerance=search.tolerance
            )
            ends = (None if rate is None else probes[rate] for rate in (low, high))
            capacities.append(Capacity(criterion, *ends))
    except _Stopped:
        return None
    return Found(tuple(capacities), tuple(probes[rate] for rate in sorted(probes)))


class _Stopped(Exception):
    """The search was told to end."""


def run_probe(search: Search, backend: Backend, rate: float, stop: Stop) -> Probe:
    """Offer one rate: the requests of `run --rate` with the same options."""
    trace = trace_of(search.plan, search.dataset, rate)
    engine = backend.make_engine(search.plan, prefixes=trace.prefixes)
    source = trace.arrivals()
    limits = [criterion.hopeless_latency for criterion in search.criteria]
    hopeless: UntilHopeless | None = None
    if all(limit is not None for limit in limits):
        most = max(limit for limit in limits if limit is not None)
        source = hopeless = UntilHopeless(source, most, len(trace.requests), engine.stop)
    with stopping(stop, engine.stop):
        record = engine.run(source)
    is_cut = hopeless is not None and hopeless.is_hopeless
    running = record.steps["running"]
    return Probe(
        rate=rate,
        num_requests=len(trace.requests),
        figures=None if is_cut else search.criteria[0].figures(record),
        limit=find_limit(record),
        running_mean=float(running.mean()) if len(running) else 0.0,
        valid=is_cut or not validity(record),
    )
