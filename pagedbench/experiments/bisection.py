"""Bisection: the interval around the highest load that is sustained, and whether longer runs move it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Interval: TypeAlias = tuple[float | None, float | None]
"""The highest load tried that is sustained, and the lowest tried that is not; None: there is none."""

MAX_RATE = 4096.0
"""Requests per second, or speed-up of a trace, at which a search gives up: nothing limits the system."""

DIGITS = 4
"""Of a load that is tried, so that it can be typed again."""


def rounded(load: float) -> float:
    """A load that can be typed."""
    return float(f"{load:.{DIGITS}g}")


def bisect(
    is_sustained: Callable[[float], bool],
    *,
    start: float,
    lowest: float,
    tolerance: float,
    highest: float = MAX_RATE,
) -> Interval:
    """The interval of loads around the limit: the last that is sustained, and the first that is not.

    Doubles or halves from `start` until the limit is between two loads, then halves the interval on a
    logarithmic scale until its ends differ by less than `tolerance`, relatively. None: there is no such
    load between `lowest` and `highest`.
    """
    low: float | None = None
    high: float | None = None
    load = start
    while low is None or high is None:
        if is_sustained(load):
            low = load
            load = min(rounded(2 * load), highest)
        else:
            high = load
            load = rounded(load / 2)
        if (high is None and low == highest) or (low is None and load < lowest):
            return low, high
    return _narrowed(is_sustained, low, high, tolerance)


def bisect_again(
    is_sustained: Callable[[float], bool],
    interval: Interval,
    *,
    lowest: float,
    tolerance: float,
    highest: float = MAX_RATE,
) -> Interval:
    """The interval for another `is_sustained`, in few tries if it is near `interval`.

    If both ends have kept their answers, it is the same interval. Otherwise the ends move, in steps that
    double, until the limit is between them.
    """
    low, high = interval
    if low is None or high is None:
        start = low or high
        assert start is not None, "no load was tried"
        return bisect(is_sustained, start=start, lowest=lowest, tolerance=tolerance, highest=highest)
    step = high / low
    while not is_sustained(low):
        if low <= lowest:
            return None, low
        low, high, step = max(rounded(low / step), lowest), low, step * step
    while is_sustained(high):
        if high >= highest:
            return high, None
        low, high, step = high, min(rounded(high * step), highest), step * step
    return _narrowed(is_sustained, low, high, tolerance)


def spanned(one: Interval, other: Interval) -> Interval:
    """The interval from the lower of both lower ends to the higher of both upper ends."""
    (low, high), (other_low, other_high) = one, other
    return (
        None if low is None or other_low is None else min(low, other_low),
        None if high is None or other_high is None else max(high, other_high),
    )


def _narrowed(is_sustained: Callable[[float], bool], low: float, high: float, tolerance: float) -> Interval:
    while high > low * (1 + tolerance):
        middle = rounded(math.sqrt(low * high))
        if not low < middle < high:
            break
        if is_sustained(middle):
            low = middle
        else:
            high = middle
    return low, high
