"""When requests arrive: gaps of unit rate, sampled once per seed, and sources that hand requests over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pagedbench.workload.rows import TraceError
from pagedbench.workload.seeds import Stream, generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pagedbench.request import Request, SequenceGroup

MAX_REQUESTS = 10_000_000
"""More requests in one run are a typing error in the rate or the duration."""

_CHUNK = 4096


class Stalled(RuntimeError):
    """Requests are left, none runs, and none will arrive: a bug in a scheduler or memory manager."""


class Sleeper(Protocol):
    """A clock, as far as waiting is concerned."""

    def sleep_until(self, when: float) -> None: ...


class ArrivalSource(Protocol):
    """Hands requests to the engine when they are due."""

    def due(self, now: float) -> list[Request]:
        """The requests that have arrived by `now` and were not handed over before, in order."""
        ...

    def cancelled(self) -> Iterable[int]:
        """Ids of requests that their clients have cancelled since the last call; none in a trace."""
        return ()

    def completed(self, groups: Iterable[SequenceGroup], now: float) -> None:
        """Take note that these groups have left: a client that waited for a reply may ask again."""
        return

    @property
    def next_time(self) -> float | None:
        """When the next request arrives; None if none is left, or if the next one waits for a reply."""
        ...

    def wait(self, clock: Sleeper) -> None:
        """Return when the idle engine should look again; returning earlier does no harm.

        Raises:
            Stalled: no request will ever arrive.
        """
        if self.next_time is None:
            raise Stalled("requests are left, but the scheduler runs none of them")
        clock.sleep_until(self.next_time)

    @property
    def has_more(self) -> bool:
        """Will another request arrive?"""
        ...


class FixedArrivals(ArrivalSource):
    """Requests at times known beforehand, whatever the engine does (an open loop)."""

    def __init__(self, requests: Sequence[Request]) -> None:
        """`requests`: in order of arrival."""
        times = [request.arrival_time for request in requests]
        assert times == sorted(times), "requests must be in order of arrival"
        self._requests = requests
        self._next = 0

    def due(self, now: float) -> list[Request]:
        start = self._next
        while self._next < len(self._requests) and self._requests[self._next].arrival_time <= now:
            self._next += 1
        return list(self._requests[start : self._next])

    @property
    def next_time(self) -> float | None:
        return self._requests[self._next].arrival_time if self.has_more else None

    @property
    def has_more(self) -> bool:
        return self._next < len(self._requests)


@dataclass(frozen=True, slots=True)
class ArrivalProcess:
    """A process of unit rate, sped up to `rate`.

    The gaps depend only on the seed, so at twice the rate the same requests arrive in half the time.

    Attributes:
        kind: `poisson` (exponential gaps), `gamma` (gaps of mean 1 and shape `burstiness`) or
            `constant`. The first request arrives after the first gap.
        rate: requests per second; infinite: all at time 0.
        burstiness: the gamma shape: 1 is Poisson, below 1 burstier, above 1 more regular.
    """

    kind: str
    rate: float
    burstiness: float = 1.0

    def __str__(self) -> str:
        return self.in_words("requests")

    def in_words(self, noun: str) -> str:
        """The process as a phrase; `noun` is what arrives, requests or sessions."""
        if math.isinf(self.rate):
            return "all at once"
        shape = f" with burstiness {self.burstiness:g}" if self.kind == "gamma" else ""
        return f"{self.kind} at {self.rate:g} {noun}/s{shape}"

    def times(self, num_requests: int, seed: int) -> NDArray[np.float64]:
        """The first `num_requests` arrival times in seconds.  # [num_requests]"""
        _check_number(num_requests)
        if math.isinf(self.rate):
            return np.zeros(num_requests)
        return np.cumsum(self._gaps(generator(seed, Stream.ARRIVALS), num_requests)) / self.rate

    def times_until(self, duration: float, seed: int) -> NDArray[np.float64]:
        """The arrival times within `duration` seconds, at a finite rate.  # [number of arrivals]"""
        span = duration * self.rate  # in units of the mean gap
        _check_number(span)
        numbers = generator(seed, Stream.ARRIVALS)
        gaps = np.empty(0)
        while gaps.sum() <= span:
            _check_number(gaps.size)  # all of them arrive within the span
            gaps = np.append(gaps, self._gaps(numbers, _CHUNK + max(int(span), gaps.size)))
        arrivals = np.cumsum(gaps)
        return arrivals[arrivals <= span] / self.rate

    def _gaps(self, numbers: np.random.Generator, count: int) -> NDArray[np.float64]:
        """The next gaps of mean 1; sampling in parts gives the same gaps as sampling all at once."""
        if self.kind == "constant":
            return np.ones(count)
        if self.kind == "gamma":
            return numbers.standard_gamma(self.burstiness, count) / self.burstiness
        return numbers.standard_exponential(count)


def _check_number(number: float) -> None:
    if not number <= MAX_REQUESTS:
        raise TraceError(f"that is more than {MAX_REQUESTS:,} requests: lower the rate, duration or number")
