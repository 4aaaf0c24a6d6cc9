"""When requests come: gaps of unit rate drawn once per seed, and the source that hands them over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pagedbench.workload.rows import TraceError, unknown_name
from pagedbench.workload.seeds import Stream, generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pagedbench.request import Request, SequenceGroup

PROCESSES = ("poisson", "gamma", "constant")
"""Arrivals that are drawn; `trace` replays those of a file."""

MAX_REQUESTS = 10_000_000
"""More requests in one run are a slip of the rate or the duration."""

_CHUNK = 4096


class Stalled(RuntimeError):
    """Requests are left, nothing runs, and nothing will arrive: a bug in a scheduler or manager."""


class Sleeper(Protocol):
    """A clock, as far as waiting is concerned."""

    def sleep_until(self, when: float) -> None: ...


class ArrivalSource(Protocol):
    """Hands requests to the engine when they are due."""

    def due(self, now: float) -> list[Request]:
        """The requests that have arrived by `now` and were not handed over before, in order."""
        ...

    def cancelled(self) -> Iterable[int]:
        """Ids of requests that their clients have given up since the last call."""
        ...

    def completed(self, groups: Iterable[SequenceGroup], now: float) -> None:
        """These groups have left; a client that waits for its reply may now ask again."""
        ...

    @property
    def next_time(self) -> float | None:
        """When the next request arrives; None when none is left, or the next waits for a reply."""
        ...

    def wait(self, clock: Sleeper) -> None:
        """Return when the engine, which has nothing to do, should look again; earlier does no harm.

        Raises:
            Stalled: nothing will ever come.
        """
        ...

    @property
    def has_more(self) -> bool:
        """Will any request arrive yet?"""
        ...


def wait_until(next_time: float | None, clock: Sleeper) -> None:
    """Wait for a request whose time is known.

    Raises:
        Stalled: there is none.
    """
    if next_time is None:
        raise Stalled("requests are left, but the scheduler runs none of them")
    clock.sleep_until(next_time)


class FixedArrivals:
    """Requests at times known beforehand, whatever becomes of them (an open loop)."""

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

    def cancelled(self) -> tuple[int, ...]:
        return ()  # a trace has the patience to wait

    def completed(self, groups: Iterable[SequenceGroup], now: float) -> None:
        """Nothing waits for a reply."""

    @property
    def next_time(self) -> float | None:
        return self._requests[self._next].arrival_time if self.has_more else None

    def wait(self, clock: Sleeper) -> None:
        wait_until(self.next_time, clock)

    @property
    def has_more(self) -> bool:
        return self._next < len(self._requests)


@dataclass(frozen=True, slots=True)
class ArrivalProcess:
    """How requests arrive: a process of unit rate, sped up to `rate`.

    The gaps depend on the seed alone, so at twice the rate the same requests come in half the time.

    Attributes:
        kind: `poisson` (exponential gaps), `gamma` (gaps of mean 1 and shape `burstiness`) or
            `constant`. The first request comes after the first gap.
        rate: requests per second; infinite: all at time 0.
        burstiness: the gamma shape: 1 is Poisson, below 1 burstier, above 1 more regular.

    Raises:
        TraceError: a value is impossible or would have no effect.
    """

    kind: str
    rate: float
    burstiness: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in PROCESSES:
            raise unknown_name("arrival process", self.kind, PROCESSES)
        if not self.rate > 0:  # also NaN
            raise TraceError(f"rate is {self.rate}, but must be above 0 requests per second, or inf")
        if not 0 < self.burstiness < math.inf:
            raise TraceError(f"burstiness is {self.burstiness}, but must be a finite number above 0")
        if self.burstiness != 1 and (self.kind != "gamma" or math.isinf(self.rate)):
            raise TraceError(
                f"burstiness {self.burstiness} has no effect on {self}: "
                "it shapes arrival gamma at a finite rate"
            )

    def __str__(self) -> str:
        return self.in_words("requests")

    def in_words(self, noun: str) -> str:
        """The process as a phrase; `noun`: what arrives, requests or sessions."""
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
        """The arrival times within `duration` seconds.  # [number of arrivals]"""
        if math.isinf(self.rate):
            raise TraceError(
                "a duration has no meaning at rate inf, where all arrive at once: leave it out"
            )
        span = duration * self.rate  # in units of the mean gap
        _check_number(span)
        draws = generator(seed, Stream.ARRIVALS)
        gaps = np.empty(0)
        while gaps.sum() <= span:
            _check_number(gaps.size)  # all of them arrive within the span
            gaps = np.append(gaps, self._gaps(draws, _CHUNK + max(int(span), gaps.size)))
        arrivals = np.cumsum(gaps)
        return arrivals[arrivals <= span] / self.rate

    def _gaps(self, draws: np.random.Generator, number: int) -> NDArray[np.float64]:
        """The next gaps of mean 1; drawing in parts gives the same gaps as drawing all at once."""
        if self.kind == "constant":
            return np.ones(number)
        if self.kind == "gamma":
            return draws.standard_gamma(self.burstiness, number) / self.burstiness
        return draws.standard_exponential(number)


def _check_number(number: float) -> None:
    if not number <= MAX_REQUESTS:
        raise TraceError(f"that is more than {MAX_REQUESTS:,} requests: lower the rate, duration or number")
