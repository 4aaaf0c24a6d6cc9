"""Wall or virtual time; the only file that reads a clock."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.request import DecodeCounter
    from pagedbench.scheduling.batch import Batch

MAX_SLEEP = 0.02
"""Longest uninterrupted sleep in seconds: the engine looks for an interrupt after each."""

AT_ONCE = 64
"""Iterations whose times are computed in one call."""


class Clock(Protocol):
    """Seconds since the run began."""

    is_virtual: bool

    @property
    def now(self) -> float: ...

    def start(self) -> None:
        """Time zero is now."""
        ...

    def sleep_until(self, when: float) -> None:
        """Wait, at most until `when`; may return earlier."""
        ...

    def tick(self, batch: Batch) -> None:
        """An iteration has been executed."""
        ...

    def decode_ends(self, batch: Batch, number: int, limit: float, counter: DecodeCounter) -> list[float]:
        """When `batch`, which only decodes, and the batches after it that decode the same sequences end.

        Args:
            number: the most batches to look at.
            limit: no batch begins at this time or later.
            counter: the sequences' counter. It and the batch change meanwhile, and are then as before.

        Returns the present time and the end of each batch.
        """
        ...


class WallClock:
    """Real time."""

    is_virtual = False

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def start(self) -> None:
        self._start = time.perf_counter()

    @property
    def now(self) -> float:
        return time.perf_counter() - self._start

    def sleep_until(self, when: float) -> None:
        time.sleep(min(max(when - self.now, 0.0), MAX_SLEEP))

    def tick(self, batch: Batch) -> None:
        """Real iterations take their own time."""

    def decode_ends(self, batch: Batch, number: int, limit: float, counter: DecodeCounter) -> list[float]:
        return [self.now]  # unknown


class PacedClock(WallClock):
    """Wall time in which every iteration takes as long as a simulated clock says."""

    def __init__(self, simulated: VirtualClock) -> None:
        super().__init__()
        self._simulated = simulated

    def tick(self, batch: Batch) -> None:
        before = self._simulated.now
        self._simulated.tick(batch)
        time.sleep(self._simulated.now - before)


class VirtualClock:
    """Simulated time: it advances by what a cost model says, so a run is deterministic and fast."""

    is_virtual = True

    def __init__(
        self,
        step_time: Callable[[Batch], float],
        decode_times: Callable[[Batch, int], list[float]] | None = None,
    ) -> None:
        """Start at zero.

        Args:
            step_time: the seconds of a batch.
            decode_times: the seconds of a batch that only decodes and of its successors, in one call; an
                empty list where these cannot be computed.
        """
        self.now = 0.0
        self._step_time = step_time
        self._decode_times = decode_times or _unknown
        self._latest = math.inf  # seconds of the last batch

    def start(self) -> None:
        self.now = 0.0

    def sleep_until(self, when: float) -> None:
        self.now = max(self.now, when)

    def tick(self, batch: Batch) -> None:
        self._latest = self._step_time(batch)
        self.now += self._latest

    def decode_ends(self, batch: Batch, number: int, limit: float, counter: DecodeCounter) -> list[float]:
        times, base, now, context = [self.now], counter.count, self.now, batch.decode_context
        while len(times) <= number and now < limit:
            left = number + 1 - len(times)
            if (limit - now) < AT_ONCE * self._latest:
                left = min(left, int((limit - now) / self._latest) + 2)
            seconds = self._decode_times(batch, min(left, AT_ONCE))
            if not seconds:  # lengths of sequences may be looked at
                counter.count = base + len(times)
                seconds = [self._step_time(batch)]
            ends = list(accumulate(seconds, initial=now))
            times += ends[1 : bisect_left(ends, limit) + 1]
            now = times[-1]
            self._latest = seconds[-1]
            batch.decode_context += len(seconds) * len(batch.decodes)
        counter.count, batch.decode_context = base, context
        return times


def _unknown(batch: Batch, number: int) -> list[float]:
    return []


def utc_now() -> time.struct_time:
    """The calendar time, for manifests and folder names."""
    return time.gmtime()


def utc_text() -> str:
    """The time of day as ISO 8601, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", utc_now())
