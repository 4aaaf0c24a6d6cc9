"""Criterion: what "sustained" means, as bounds on the latencies of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pagedbench.metrics.slo import BOUNDED, Slo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pagedbench.metrics.latency import Latencies
    from pagedbench.request import Request, SequenceGroup
    from pagedbench.workload.arrivals import ArrivalSource, Sleeper

NORMALIZED = "normalized_latency"


class Measured(Protocol):
    """What one or several engines served."""

    @property
    def latencies(self) -> Latencies: ...

    @property
    def num_arrived(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Criterion:
    """A rate is sustained if a run at this rate meets the bounds.

    The paper (section 6.1) bounds the mean over all requests of a run, which lasts until the last one ends;
    queueing from the scheduled arrival is included. With `attainment`, at least this share (0-1) of the
    requests must meet every bound instead (goodput, as later systems define it).
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

    def figures(self, record: Measured) -> tuple[float, ...]:
        """The mean of each bounded latency in seconds (infinite if no request completed), or the share."""
        if self.attainment is not None:
            met = self.bounds.is_met(record.latencies)
            return (float(met.sum()) / max(record.num_arrived, 1),)
        return tuple(_mean(record, name) for name, _ in self.bounds.bounds)

    def is_met(self, figures: Sequence[float]) -> bool:
        """Whether these `figures` of a run meet the bounds."""
        if self.attainment is not None:
            return figures[0] >= self.attainment
        pairs = zip(figures, self.bounds.bounds, strict=True)
        return all(figure <= limit for figure, (_, limit) in pairs)

    @property
    def hopeless_latency(self) -> float | None:
        """The bound on the mean normalized latency, in s/token; a run above it can be ended early."""
        return None if self.attainment is not None else dict(self.bounds.bounds).get(NORMALIZED)


def _unit(name: str) -> str:
    return "s/token" if name == NORMALIZED else "s"


def _mean(record: Measured, name: str) -> float:
    samples = getattr(record.latencies, BOUNDED[name])
    samples = samples[np.isfinite(samples)]
    return float(samples.mean()) if len(samples) else np.inf


class UntilHopeless:
    """Arrivals that end the run once its mean normalized latency can no longer meet a bound.

    A request that waits or runs will have at least its present latency, so the sum over all requests has a
    lower bound that only grows. Overloaded runs then end long before their queues are served.
    """

    def __init__(
        self, source: ArrivalSource, limit: float, num_requests: int, end: Callable[[], None]
    ) -> None:
        """`limit`: in s/token; `num_requests`: those of the whole run; `end`: ends the run."""
        self.is_hopeless = False
        self._source = source
        self._end = end
        self._limit = limit * num_requests
        self._sum = 0.0  # normalized latencies of requests that ended
        self._weight = 0.0  # 1 / length, summed over the requests that have not ended
        self._offset = 0.0  # arrival / length, likewise

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
        """A lower bound on the sum of the normalized latencies."""
        return self._sum + now * self._weight - self._offset

    @property
    def next_time(self) -> float | None:
        return self._source.next_time

    def wait(self, clock: Sleeper) -> None:
        self._source.wait(clock)

    @property
    def has_more(self) -> bool:
        return self._source.has_more
