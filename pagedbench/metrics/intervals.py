"""95 % intervals from the requests of one run, by five long sections, each like a short run.

A queue persists, so requests depend on hundreds of neighbours. The interval is for the expected value over
runs of the same length and options with other seeds. `results/interval-coverage.md` measures how often it
holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pagedbench.metrics.percentiles import near_ranks, percentile, value_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Interval: TypeAlias = tuple[float, float]
    Vector: TypeAlias = NDArray[np.float64]

METHOD = (
    "for the expected value over other seeds: t-interval over 5 sections of the run, widened by half, and "
    "by the effect of 7 % more requests like the five worst or best neighbours; none for an overloaded "
    "run or fewer than 5 effective samples"
)
"""The method, for summary.json."""

NUM_SECTIONS = 5
"""Few and long sections, so that the queue at the end of one has little effect on the next."""

CRITICAL_T = 2.776445
"""Student's t of a 95 % interval with NUM_SECTIONS - 1 degrees of freedom."""

WIDENING = 1.5
"""A measured factor: latencies are skewed, and neighbouring sections depend on each other."""

PIECE = 5
RARE_SHARE = 0.07
"""Rare situations of a run may be more frequent in another run: the interval allows for this share of
additional requests like the worst PIECE neighbours (rule of three: 3 / independent situations)."""

MIN_REQUESTS = 10
"""Least requests with a value for an interval."""

MIN_EFFECTIVE = NUM_SECTIONS
"""Least effective samples for an interval: with fewer, sections cannot be independent."""

MAX_SPAN = 1000.0
"""The largest ratio of the upper to the lower end of an interval."""


@dataclass(frozen=True, eq=False)  # without slots, because cached_property needs a __dict__
class Samples:
    """Observations, request by request; requests are numbered from 0 in the order of arrival."""

    values: NDArray[np.float64]  # [num_samples], finite
    counts: NDArray[np.int64]  # [num_requests], values of each request
    _influences: dict[float | None, Vector] = field(default_factory=dict, init=False, repr=False)
    _statistics: dict[float | None, float] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def requests(self) -> NDArray[np.int64]:
        """The requests that have a value.  # [requests with a value]"""
        return np.flatnonzero(self.counts)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """The first value of each request, and the end of all.  # [num_requests + 1]"""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def between(self, first: int, end: int) -> NDArray[np.float64]:
        """Values of the requests from `first` to `end` - 1."""
        return self.values[self._starts[first] : self._starts[end]]

    def sections(self) -> list[NDArray[np.float64]]:
        bounds = [i * len(self.counts) // NUM_SECTIONS for i in range(NUM_SECTIONS + 1)]
        return [self.between(first, end) for first, end in pairwise(bounds)]

    def statistic(self, percent: float | None) -> float:
        """That of all values."""
        if percent not in self._statistics:
            self._statistics[percent] = statistic(self.values, percent)
        return self._statistics[percent]

    def influences(self, percent: float | None) -> Vector:
        """The influence of each request on the statistic, in any unit: the distance of its values from the
        mean, or how many more of them exceed the percentile.  # [requests with a value]"""
        if percent not in self._influences:
            centre, requests = self.statistic(percent), self.requests
            if percent is None:
                sums, expected = np.add.reduceat(self.values, self._starts[requests]), centre
            else:
                above, expected = np.flatnonzero(self.values > centre), 1 - percent / 100
                sums = np.diff(np.searchsorted(above, self._starts))[requests]
            self._influences[percent] = sums - expected * self.counts[requests]
        return self._influences[percent]

    def percentiles_with(self, percent: float, more: list[Vector]) -> list[float]:
        """The percentile of all values and those of each of `more`, without sorting or copying both.

        Only values of some ranks can be the percentile: `more` lies before or after them.
        """
        position, most = (len(self.values) - 1) * percent / 100, max(map(len, more))
        first, last = max(int(position) - most, 0), min(int(position) + most + 1, len(self.values) - 1)
        near, num_below = near_ranks(self.values, first, last)
        return [
            value_at(
                np.concatenate([near, extra]),
                (len(self.values) + len(extra) - 1) * percent / 100 - num_below,
            )
            for extra in more
        ]


def statistic(values: NDArray[np.float64], percent: float | None) -> float:
    """A percentile, interpolated linearly; the mean if `percent` is None; NaN without values."""
    if not len(values):
        return math.nan
    return float(values.mean()) if percent is None else percentile(values, percent)


def interval(samples: Samples, percent: float | None) -> Interval | None:
    """The 95 % interval of the statistic of positive values; None if the sections differ too much.

    It is the standard error of the sections' statistics, relative to that of the whole run, on a
    logarithmic scale, as latencies near saturation differ by factors (sectioning: S. Asmussen and P. Glynn,
    Stochastic Simulation, 2007, III.5a).
    """
    centre = samples.statistic(percent)
    parts = [statistic(values, percent) for values in samples.sections()]
    if not centre > 0 or not np.isfinite(parts).all():
        return None
    reach = half_width(np.array(parts) / centre - 1)
    low, high = _with_rare(samples, percent)
    if 2 * reach > math.log(MAX_SPAN):
        return None
    return min(low, centre) * math.exp(-reach), max(high, centre) * math.exp(reach)


def half_width(deviations: NDArray[np.float64]) -> float:
    """The half-width, from the deviations of the sections from the whole.  # [NUM_SECTIONS]"""
    error = math.sqrt(float((deviations**2).sum()) / (NUM_SECTIONS * (NUM_SECTIONS - 1)))
    return WIDENING * CRITICAL_T * error


def _with_rare(samples: Samples, percent: float | None) -> Interval:
    """The statistic with additional requests like the best, and like the worst, group of neighbours."""
    requests = samples.requests
    sums = np.add.reduceat(samples.influences(percent), np.arange(0, len(requests), PIECE))
    copies = math.ceil(RARE_SHARE * len(requests) / PIECE)
    extremes = []
    for index in (int(sums.argmin()), int(sums.argmax())):
        chosen = requests[index * PIECE : (index + 1) * PIECE]
        extremes.append(samples.between(int(chosen[0]), int(chosen[-1]) + 1))
    if percent is not None:
        low, high = samples.percentiles_with(percent, [np.tile(extra, copies) for extra in extremes])
        return low, high
    number, mean = len(samples.values), samples.statistic(None)
    low, high = (
        (number * mean + copies * float(extra.sum())) / (number + copies * len(extra)) for extra in extremes
    )
    return low, high


def effective_number(influences: NDArray[np.float64]) -> float:
    """The number of independent requests with the same information on a statistic.  # [num_requests]

    The number of requests divided by their integrated autocorrelation time, by the initial monotone
    sequence of C. Geyer, Practical Markov chain Monte Carlo, Statistical Science 7 (1992).
    """
    number = len(influences)
    centred = influences - influences.mean()
    if np.allclose(centred, 0):
        return float(number)
    spectrum = np.fft.rfft(centred, 2 * number)
    products = np.fft.irfft(np.abs(spectrum) ** 2)[: number // 2 * 2]
    pairs = (products[::2] + products[1::2]) / products[0]
    num_positive = int(np.argmax(pairs <= 0)) if (pairs <= 0).any() else len(pairs)
    time = 2 * float(np.minimum.accumulate(pairs[:num_positive]).sum()) - 1
    return number / max(time, 1.0)
