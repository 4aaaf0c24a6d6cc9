"""CacheTimes: how long contents of the prefix cache live, lie idle, and wait for their next use."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EDGES = tuple(round(10 ** (power / 4), 6) for power in range(-12, 21))
"""Edges of bins in seconds, four per power of ten, 1 ms to 100,000 s. Bin i ends before edge i."""


class Durations:
    """Counts of durations: below the first edge, between two, from the last on.  # [len(EDGES) + 1]"""

    def __init__(self) -> None:
        self.counts = [0] * (len(EDGES) + 1)
        self._last = (0.0, 0)  # a duration and its bin; neighbours are often equal

    def add(self, seconds: Iterable[float]) -> None:
        counts, (last, index) = self.counts, self._last
        for duration in seconds:
            if duration != last:
                last, index = duration, bisect_right(EDGES, duration)
            counts[index] += 1
        self._last = last, index


class CacheTimes:
    """Seconds of the run's clock, taken at the start of iterations.

    Attributes:
        lifetimes: from the computation of a block to its eviction.
        idle_times: from the release by the last owner to the eviction.
        gaps: from one use to the next, of contents that were found again.
    """

    def __init__(self) -> None:
        self.lifetimes = Durations()
        self.idle_times = Durations()
        self.gaps = Durations()
