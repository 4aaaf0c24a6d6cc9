"""What "sustained" means: which latencies of a run are bounded, and how much of it keeps the bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.slo import BOUNDED, Slo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pagedbench.metrics.records import RunRecord
    from pagedbench.request import Request, SequenceGroup
    from pagedbench.workload.arrivals import ArrivalSource, Sleeper

NORMALIZED = "normalized_latency"


@dataclass(frozen=True, slots=True)
class Criterion:
    """A rate is sustained if a run at it keeps the bounds.

    The paper's form (section 6.1): the mean over all requests of a run, which lasts until the last one
    ends, queueing from the scheduled arrival included. With `attainment`, instead: the share (0-1) of
    requests that each keep every bound is at least this (goodput, as later systems define it).
    """

    bounds: Slo
    attainment: float | None = None

    def __str__(self) -> str:
        words = " and ".join(
            f"{name.replace('_', ' ')} <= {limit:g} {_unit(name)}" for name, limit in self.bounds.bounds
        )
        if self.attainment is None:
            return f"mean {words}"
        return f"{words} for {100 * self.attainment:g} % of requests"

    def figures(self, record: RunRecord) -> tuple[float, ...]:
        """The mean of each bounded latency, in seconds; or the share of requests that keep the bounds.

        Infinite where no request completed.
        """
        if self.attainment is not None:
            met = self.bounds.is_met(record.latencies)
            return (float(met.sum()) / max(record.num_arrived, 1),)
        return tuple(_mean(record, name) for name, _ in self.bounds.bounds)

    def is_met(self, figures: Sequence[float]) -> bool:
        """Do these `figures` of a run keep the bounds?"""
        if self.attainment is not None:
            return figures[0] >= self.attainment
        pairs = zip(figures, self.bounds.bounds, strict=True)
        return all(figure <= limit for figure, (_, limit) in pairs)

    @property
    def hopeless_latency(self) -> float | None:
        """The bound on the mean normalized latency, in s/token: above it a run need not be finished."""
        return None if self.attainment is not None else dict(self.bounds.bounds).get(NORMALIZED)


def _unit(name: str) -> str:
    return "s/token" if name == NORMALIZED else "s"


def _mean(record: RunRecord, name: str) -> float:
    samples = getattr(record.latencies, BOUNDED[name])
    samples = samples[np.isfinite(samples)]
    return float(samples.mean()) if len(samples) else np.inf


class UntilHopeless:
    """Arrivals that end their run once its mean normalized latency can no longer keep a bound.

    A request that waits or runs will have at least the latency that it has now, so the sum over all has a
    lower bound that only grows. Past the knee, runs end long before their queues are served.
    """

    def __init__(
        self, source: ArrivalSource, limit: float, num_requests: int, end: Callable[[], None]
    ) -> None:
        """`limit`: seconds a token; `num_requests`: of the whole run; `end`: ends it."""
        self.is_hopeless = False
        self._source = source
        self._end = end
        self._limit = limit * num_requests
        self._sum = 0.0  # of the normalized latencies of requests that ended
        self._weight = 0.0  # of those that have not: sum of 1 / length
        self._offset = 0.0  # and sum of arrival / length

    def due(self, now: float) -> list[Request]:
        requests = self._source.due(now)
        for request in requests:
            self._weight += 1 / request.reply_len
            self._offset += request.arrival_time / request.reply_len
        return requests

    def cancelled(self) -> Iterable[int]:
        return self._source.cancelled()

    def completed(self, groups: Iterable[SequenceGroup], now: float) -> None:
        for group in groups:
            arrival, length = group.request.arrival_time, group.request.reply_len
            self._weight -= 1 / length
            self._offset -= arrival / length
            self._sum += (now - arrival) / length
        if not self.is_hopeless and self.least_sum(now) > self._limit:
            self.is_hopeless = True
            self._end()
        self._source.completed(groups, now)

    def least_sum(self, now: float) -> float:
        """A lower bound of the sum of the normalized latencies."""
        return self._sum + now * self._weight - self._offset

    @property
    def next_time(self) -> float | None:
        return self._source.next_time

    def wait(self, clock: Sleeper) -> None:
        self._source.wait(clock)

    @property
    def has_more(self) -> bool:
        return self._source.has_more
