"""95 % intervals by a moving-block bootstrap: the requests of one run depend on their neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    Interval: TypeAlias = tuple[float, float]

LEVELS = (2.5, 97.5)
"""Percentiles of the resampled statistic that bound the interval."""

MIN_REQUESTS = 10
"""With fewer requests than this there is no interval."""

MAX_RESAMPLES = 1000
MIN_RESAMPLES = 100
MAX_WEIGHTS = 4_000_000  # resamples times requests, which bounds memory and time


@dataclass(frozen=True, slots=True, eq=False)
class Resamples:
    """How often every request is in every resample; requests are in order of arrival."""

    weights: NDArray[np.int16]  # [num_resamples, num_requests]

    def ratio_interval(
        self, numerator: NDArray[np.float64], denominator: NDArray[np.float64]
    ) -> Interval | None:
        """The interval of `sum(numerator) / sum(denominator)`.  # both [num_requests]"""
        columns = np.stack([numerator, denominator], axis=1)
        sums = np.concatenate([rows.astype(np.float64) @ columns for rows in self._chunks()])
        in_use = sums[:, 1] > 0
        return _interval(sums[in_use, 0] / sums[in_use, 1])

    def mean_interval(self, values: NDArray[np.float64]) -> Interval | None:
        """The interval of the mean of the values that are not NaN.  # [num_requests]"""
        return self.ratio_interval(np.nan_to_num(values), np.isfinite(values).astype(np.float64))

    def percentile_intervals(
        self, values: NDArray[np.float64], percents: Items[float]
    ) -> list[Interval | None]:
        """The intervals of linearly interpolated percentiles of the values that are not NaN."""
        if not np.isfinite(values).any():
            return [None] * len(percents)
        estimates = self._percentile_estimates(values, percents)
        return [_interval(column[np.isfinite(column)]) for column in estimates.T]

    def percentile_ratio_interval(
        self, numerator: NDArray[np.float64], denominator: NDArray[np.float64], percent: float
    ) -> Interval | None:
        """The interval of the ratio of a percentile of two columns, NaN left out.  # both [num_requests]"""
        if not (np.isfinite(numerator).any() and np.isfinite(denominator).any()):
            return None
        above, below = (
            self._percentile_estimates(values, [percent])[:, 0] for values in (numerator, denominator)
        )
        in_use = np.isfinite(above) & (below > 0)
        return _interval(above[in_use] / below[in_use])

    def _percentile_estimates(
        self, values: NDArray[np.float64], percents: Items[float]
    ) -> NDArray[np.float64]:
        """# [num_resamples, num_percents]"""
        order = np.argsort(values)[: np.count_nonzero(np.isfinite(values))]
        return np.concatenate(
            [_percentiles(rows[:, order], values[order], percents) for rows in self._chunks()]
        )

    def _chunks(self) -> list[NDArray[np.int16]]:
        """The resamples in portions that fit a processor's cache."""
        rows = max(1, 250_000 // self.weights.shape[1])
        return [self.weights[i : i + rows] for i in range(0, len(self.weights), rows)]


def resample(num_requests: int) -> Resamples | None:
    """Draw resamples of blocks of ceil(n^(1/3)) neighbours; the same ones for the same n.

    Blocks wrap around at the end, or else the first and the last requests, which wait longest in an
    overloaded run, would be drawn too seldom. None with too few requests.

    Source: H. Künsch, The jackknife and the bootstrap for general stationary observations, Annals of
    Statistics 17 (1989); the block length grows with n^(1/3). D. Politis and J. Romano, A circular
    block-resampling procedure for stationary data (1992).
    """
    if num_requests < MIN_REQUESTS:
        return None
    num_resamples = min(max(MAX_WEIGHTS // num_requests, MIN_RESAMPLES), MAX_RESAMPLES)
    block_len = math.ceil(num_requests ** (1 / 3))
    num_blocks = math.ceil(num_requests / block_len)
    generator = np.random.default_rng(num_requests)
    starts = generator.integers(num_requests, size=(num_resamples, num_blocks))
    # A block adds one to its requests: a step up where it starts, and down behind its end.
    steps = np.zeros((num_resamples, num_requests + block_len), dtype=np.int16)
    rows = np.arange(num_resamples)[:, None]
    np.add.at(steps, (rows, starts), 1)
    np.subtract.at(steps, (rows, starts + block_len), 1)
    counts = np.cumsum(steps, axis=1, dtype=np.int16)
    counts[:, :block_len] += counts[:, num_requests:]
    return Resamples(np.ascontiguousarray(counts[:, :num_requests]))


def _percentiles(
    weights: NDArray[np.int16], values: NDArray[np.float64], percents: Items[float]
) -> NDArray[np.float64]:
    """Percentiles of sorted values that count `weights` times.  # [num_resamples, num_percents]

    A resample of m values has the percentile p at rank `(m - 1) * p / 100`, between two values.
    """
    num_resamples, num_values = weights.shape
    total = np.cumsum(weights.ravel(), dtype=np.int64)  # runs on from row to row, so it is sorted
    ends = total[num_values - 1 :: num_values]
    before = ends - weights.sum(axis=1, dtype=np.int64)
    last_rank = (ends - before - 1)[:, None]  # -1 where a resample has no value at all
    rank = last_rank * np.array(percents) / 100
    low = np.clip(np.floor(rank).astype(np.int64), 0, None)
    high = np.minimum(low + 1, last_rank)
    first = num_values * np.arange(num_resamples)[:, None]

    def value_at(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        position = np.searchsorted(total, before[:, None] + ranks, side="right") - first
        found: NDArray[np.float64] = values[np.clip(position, 0, num_values - 1)]
        return found

    estimate = value_at(low) + (rank - low) * (value_at(high) - value_at(low))
    return np.where(last_rank >= 0, estimate, np.nan)


def _interval(estimates: NDArray[np.float64]) -> Interval | None:
    if not len(estimates):
        return None
    low, high = np.percentile(estimates, LEVELS)
    return float(low), float(high)


def inverted_interval(
    values: NDArray[np.float64], percent: float, share: Interval | None
) -> Interval | None:
    """The interval of a percentile, from that of the share of values which do not exceed it.

    For values pooled over requests, millions of them: the share is a ratio, which is cheap to
    resample. Source: R. Woodruff, Confidence intervals for medians and other position measures,
    Journal of the American Statistical Association 47 (1952).
    """
    if share is None or not len(values):
        return None
    centre = float(np.mean(values <= np.percentile(values, percent)))
    levels = [percent + 100 * (bound - centre) for bound in share]
    low, high = np.percentile(values, np.clip(levels, 0, 100))
    return float(low), float(high)
