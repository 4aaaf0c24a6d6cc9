"""Bisection for the highest load that a system sustains."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Interval: TypeAlias = tuple[float | None, float | None]
"""The highest tried load that is sustained, and the lowest that is not; None: there is none."""

MAX_RATE = 4096.0
"""The requests per second, or the speed-up of a trace, at which a search gives up: nothing is a limit."""


def rounded(load: float) -> float:
    """The load with four digits, so that a user can type it."""
    return float(f"{load:.4g}")


def bisect(
    is_sustained: Callable[[float], bool],
    *,
    start: float,
    lowest: float,
    tolerance: float,
    highest: float = MAX_RATE,
) -> Interval:
    """The loads just below and above the limit.

    Doubles or halves from `start` until the limit is between two loads, then halves the interval on a
    logarithmic scale until the relative difference of its ends is below `tolerance`. An end is None if
    there is no such load between `lowest` and `highest`.
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


def outward(
    is_right: Callable[[float], bool], load: float, step: float, *, lowest: float, highest: float
) -> float | None:
    """The first right load among `load` and loads farther and farther from it.

    Args:
        step: the first factor, below 1 for lower loads; later factors are its powers.

    Returns None if no load tried between `lowest` and `highest` is right.
    """
    factor = step
    while not is_right(load):
        if load == (lowest if step < 1 else highest):
            return None
        load = min(max(rounded(load * factor), lowest), highest)
        factor *= step
    return load


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
