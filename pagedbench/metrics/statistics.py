"""Paired statistics: mean log ratio, t-interval, Holm's levels, detectable changes and needed repeats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.metrics.student_t import critical_t, detectable_shift, two_sided_p

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

ALPHA = 0.05
"""The probability of a false change in one comparison."""

GATED_ALPHA, SHOWN_ALPHA = 0.8 * ALPHA, 0.2 * ALPHA
"""The parts of ALPHA in a comparison with a gate: for gated metrics, and for those only shown."""

POWER = 0.9
"""The probability with which a detectable effect is detected."""

MAX_REPEATS = 1000
"""Most repeats to recommend: a larger number would not be useful advice."""


@dataclass(frozen=True, slots=True)
class Effect:
    """The mean of n paired changes, one for each pair of runs.

    Changes are log ratios, so that half and twice have equal weight. If a value is zero or below, they are
    differences, as shares of the mean of the references (infinite if that is zero).
    """

    changes: tuple[float, ...]
    is_ratio: bool

    @property
    def count(self) -> int:
        return len(self.changes)

    @property
    def mean(self) -> float:
        return math.fsum(self.changes) / self.count

    @property
    def deviation(self) -> float:
        """Standard deviation of one change, from n - 1 degrees of freedom; NaN for a single pair."""
        if self.count < 2:
            return math.nan
        centre = self.mean
        if not math.isfinite(centre):
            return math.nan
        return math.sqrt(math.fsum((item - centre) ** 2 for item in self.changes) / (self.count - 1))

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.deviation / math.sqrt(self.count)

    @property
    def p_value(self) -> float:
        """The p-value of the two-sided t-test that the mean is zero; NaN for a single pair."""
        if not math.isfinite(self.mean):
            return 1.0 if self.count > 1 else math.nan
        if self.count < 2:
            return math.nan
        if is_negligible(self.deviation):  # equal in every pair
            return 1.0 if is_negligible(self.mean) else 0.0
        return two_sided_p(self.mean / self.error, self.count - 1)

    def interval(self, level: float = 1 - ALPHA) -> tuple[float, float]:
        """The t-interval of the mean; infinite for a single pair."""
        if self.count < 2 or math.isnan(self.error):
            return -math.inf, math.inf
        reach = critical_t(level, self.count - 1) * self.error
        return self.mean - reach, self.mean + reach

    @property
    def relative(self) -> float:
        """The mean as a relative change: 0.1 is ten percent more."""
        return self.as_relative(self.mean)

    def as_relative(self, change: float) -> float:
        """A change on this scale as a relative change."""
        if not self.is_ratio:
            return change
        return math.expm1(change) if change < 700 else math.inf

    def as_change(self, relative: float) -> float:
        """A relative change on this scale."""
        return math.log1p(relative) if self.is_ratio else relative

    @property
    def num_agreeing(self) -> int:
        """Pairs whose change has the sign of the mean; pairs without a change, if the mean is zero."""
        sign = _sign(self.mean)
        return sum(_sign(change) == sign for change in self.changes)


ROUNDING = 1e-9
"""The largest change that rounding may cause: the tables of a run have nine decimals."""

RELEVANCE = 0.001
"""Smaller relative changes count as none, by default."""


def is_negligible(change: float, limit: float = 0.0) -> bool:
    """Whether a change is below a limit, or may come from rounding."""
    return abs(change) < max(limit, ROUNDING)


def _sign(change: float) -> int:
    return 0 if is_negligible(change) else 1 if change > 0 else -1


def paired_effect(references: Items[float], candidates: Items[float]) -> Effect:
    """The change from each reference to its candidate; both lists have the same length, at least 1."""
    pairs = list(zip(references, candidates, strict=True))
    if all(first > 0 and second > 0 for first, second in pairs):
        return Effect(tuple(math.log(second / first) for first, second in pairs), is_ratio=True)
    scale = abs(math.fsum(references)) / len(pairs)
    return Effect(tuple(_share(second - first, scale) for first, second in pairs), is_ratio=False)


def _share(difference: float, scale: float) -> float:
    if difference == 0:
        return 0.0
    return difference / scale if scale > 0 else math.copysign(math.inf, difference)


def geometric_mean(values: Items[float]) -> float:
    """The geometric mean of positive values; the arithmetic mean if one is zero or below."""
    if all(value > 0 for value in values):
        return math.exp(math.fsum(math.log(value) for value in values) / len(values))
    return math.fsum(values) / len(values)


def holm_levels(p_values: Items[float], alpha: float = ALPHA) -> list[float]:
    """The confidence level of each interval, so that all of them together hold with 1 - `alpha`.

    The interval of a comparison at its level excludes zero exactly if Holm's step-down procedure rejects
    it: the smallest of m p-values is tested at alpha / m, the next at alpha / (m - 1), and so on to the
    first that is not rejected, whose level also applies to all others.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
    Statistics 6 (1979).
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    levels = [0.0] * len(p_values)
    share, has_failed = alpha, False
    for rank, index in enumerate(order):
        if not has_failed:
            share = alpha / (len(p_values) - rank)
            has_failed = not p_values[index] < share
        levels[index] = 1 - share
    return levels


def detectable(deviation: float, count: int, *, level: float = 1 - ALPHA) -> float:
    """The mean change that `count` pairs detect with probability POWER, on the scale of the deviation.

    Detection is by the t-test at `level`; the deviation is taken for the true one.
    """
    if count < 2:
        return math.inf
    return detectable_shift(level, POWER, count - 1) * deviation / math.sqrt(count)


def repeats_needed(deviation: float, change: float, *, level: float = 1 - ALPHA) -> int | None:
    """The fewest pairs that detect this mean change with probability POWER; None beyond MAX_REPEATS."""
    if not math.isfinite(deviation) or detectable(deviation, MAX_REPEATS, level=level) > change:
        return None
    low, high = 1, MAX_REPEATS  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        if detectable(deviation, middle, level=level) <= change:
            high = middle
        else:
            low = middle
    return high
