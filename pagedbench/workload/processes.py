"""Arrival processes: gaps of unit rate, sampled once per seed, and stretched to a rate over time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pagedbench.workload.rows import TraceError
from pagedbench.workload.seeds import Stream, generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_REQUESTS = 10_000_000
"""More requests in one run are a typing error in the rate or the duration."""

_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Spike:
    """A rate that is multiplied for a while.

    ::

        rate * factor          +--------+
        rate          ---------+        +---------
                      0        at       at + duration

    Attributes:
        at: seconds from the start; None: half of the time of arrivals.
        duration: seconds.
        factor: the rate in the spike over the rate outside of it.
    """

    at: float | None = None
    duration: float = 30.0
    factor: float = 3.0

    @property
    def start(self) -> float:
        """Start of the spike in seconds; it must have been decided."""
        assert self.at is not None, "the spike's time is not decided"
        return self.at

    @property
    def end(self) -> float:
        return self.start + self.duration

    def within(self, duration: float) -> Spike:
        """The spike at its own time, or in the middle of `duration` seconds."""
        return replace(self, at=duration / 2) if self.at is None else self

    def among(self, num_requests: int, rate: float) -> Spike:
        """The spike at its own time, or in the middle of the time in which `num_requests` arrive."""
        duration = num_requests / rate - (self.factor - 1) * self.duration
        if duration < 2 * self.duration:  # the requests end before the spike does
            duration = 2 * num_requests / (rate * (1 + self.factor))
        return self.within(duration)

    def num_expected(self, time: float, rate: float) -> float:
        """Requests that arrive by then, on average."""
        in_spike = min(max(time - self.start, 0.0), self.duration)
        return rate * (time + (self.factor - 1) * in_spike)

    def times(self, numbers: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
        """The times by which these numbers of requests arrive on average.  # [n] -> [n]"""
        knots = np.array([0.0, self.start, self.end])  # the number is linear between these times
        at_knots = np.array([self.num_expected(time, rate) for time in knots.tolist()])
        last: NDArray[np.float64] = self.end + (numbers - at_knots[-1]) / rate
        return np.where(numbers > at_knots[-1], last, np.interp(numbers, at_knots, knots))


@dataclass(frozen=True, slots=True)
class Ramp:
    """A rate that changes linearly.

    Attributes:
        to: requests per second at the end.
        duration: seconds from the start to the end; None: the time of arrivals.
    """

    to: float
    duration: float | None = None

    def within(self, duration: float) -> Ramp:
        """The ramp over these seconds, unless it has its own duration."""
        return replace(self, duration=duration) if self.duration is None else self

    def among(self, num_requests: int, rate: float) -> Ramp:
        """The ramp over the time in which `num_requests` arrive."""
        return self.within(2 * num_requests / (rate + self.to))

    def num_expected(self, time: float, rate: float) -> float:
        """Requests that arrive by `time`, on average."""
        assert self.duration is not None, "the ramp's duration is not decided"
        inside = min(time, self.duration)
        slope = (self.to - rate) / self.duration
        return rate * inside + slope * inside**2 / 2 + self.to * (time - inside)

    def times(self, numbers: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
        """The times by which these numbers of requests arrive on average.  # [n] -> [n]"""
        assert self.duration is not None, "the ramp's duration is not decided"
        last = self.num_expected(self.duration, rate)
        slope = (self.to - rate) / self.duration
        inside = np.minimum(numbers, last)
        # The root of rate * t + slope * t**2 / 2 = inside, in the form that is exact for a slope near 0.
        root: NDArray[np.float64] = 2 * inside / (rate + np.sqrt(rate**2 + 2 * slope * inside))
        return root + (numbers - inside) / self.to


Shape: TypeAlias = Spike | Ramp
"""How a rate changes over time."""


@dataclass(frozen=True, slots=True)
class ArrivalProcess:
    """A process of unit rate, sped up to `rate`.

    The gaps depend only on the seed, so at twice the rate the same requests arrive in half the time, and
    a spike or ramp stretches the gaps of the Poisson process.

    Attributes:
        kind: `poisson` (exponential gaps), `gamma` (gaps of mean 1 and shape `burstiness`), `constant`,
            or Poisson with the shape `spike` or `ramp`. The first request arrives after the first gap.
        rate: requests per second; infinite: all at time 0. With a shape, the rate at the start.
        burstiness: the gamma shape: 1 is Poisson, below 1 burstier, above 1 more regular.
    """

    kind: str
    rate: float
    burstiness: float = 1.0
    shape: Shape | None = None

    def __str__(self) -> str:
        return self.in_words("requests")

    def in_words(self, noun: str) -> str:
        """The process as a phrase; `noun` is what arrives, requests or sessions."""
        if math.isinf(self.rate):
            return "all at once"
        plain = f"at {self.rate:g} {noun}/s"
        if isinstance(self.shape, Spike):
            when = "" if self.shape.at is None else f" from {self.shape.start:g} to {self.shape.end:g} s"
            return f"poisson {plain}, {self.shape.factor:g} times as many{when}"
        if isinstance(self.shape, Ramp):
            return f"poisson {plain}, changing to {self.shape.to:g} {noun}/s"
        burstiness = f" with burstiness {self.burstiness:g}" if self.kind == "gamma" else ""
        return f"{self.kind} {plain}{burstiness}"

    def among(self, num_requests: int) -> ArrivalProcess:
        """The process with its shape's times decided for `num_requests` requests."""
        shape = None if self.shape is None else self.shape.among(num_requests, self.rate)
        return replace(self, shape=shape)

    def within(self, duration: float) -> ArrivalProcess:
        """The process with its shape's times decided for `duration` seconds of arrivals."""
        return replace(self, shape=None if self.shape is None else self.shape.within(duration))

    def times(self, num_requests: int, seed: int) -> NDArray[np.float64]:
        """The first `num_requests` arrival times in seconds.  # [num_requests]"""
        _check_number(num_requests)
        if math.isinf(self.rate):
            return np.zeros(num_requests)
        numbers = np.cumsum(self._gaps(generator(seed, Stream.ARRIVALS), num_requests))
        return self.among(num_requests)._stretched(numbers)

    def times_until(self, duration: float, seed: int) -> NDArray[np.float64]:
        """The arrival times within `duration` seconds, at a finite rate.  # [number of arrivals]"""
        process = self.within(duration)
        shape = process.shape
        span = duration * self.rate if shape is None else shape.num_expected(duration, self.rate)
        _check_number(span)
        generated = generator(seed, Stream.ARRIVALS)
        gaps = np.empty(0)
        while gaps.sum() <= span:
            _check_number(gaps.size)  # all of them arrive within the span
            gaps = np.append(gaps, self._gaps(generated, _CHUNK + max(int(span), gaps.size)))
        numbers = np.cumsum(gaps)
        return process._stretched(numbers[numbers <= span])

    def _stretched(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Times at the process's rate, of arrivals at these times of a process of unit rate."""
        return numbers / self.rate if self.shape is None else self.shape.times(numbers, self.rate)

    def _gaps(self, numbers: np.random.Generator, count: int) -> NDArray[np.float64]:
        """The next gaps of mean 1; sampling in parts gives the same gaps as sampling all at once."""
        if self.kind == "constant":
            return np.ones(count)
        if self.kind == "gamma":
            return numbers.standard_gamma(self.burstiness, count) / self.burstiness
        return numbers.standard_exponential(count)


def _check_number(number: float) -> None:
    if not number <= MAX_REQUESTS:
        raise TraceError(f"this asks for more than {MAX_REQUESTS:,} requests: lower the rate or duration")
