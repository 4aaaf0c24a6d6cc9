"""Wall or virtual time; the only file that reads a clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.scheduling.batch import Batch

MAX_SLEEP = 0.02
"""Longest uninterrupted sleep in seconds: the engine looks for an interrupt after each."""


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


class VirtualClock:
    """Simulated time: it advances by what a cost model says, so a run is deterministic and fast."""

    is_virtual = True

    def __init__(self, step_time: Callable[[Batch], float]) -> None:
        self.now = 0.0
        self._step_time = step_time

    def start(self) -> None:
        self.now = 0.0

    def sleep_until(self, when: float) -> None:
        self.now = max(self.now, when)

    def tick(self, batch: Batch) -> None:
        self.now += self._step_time(batch)


def utc_now() -> time.struct_time:
    """The calendar time, for manifests and folder names."""
    return time.gmtime()


def utc_text() -> str:
    """The time of day as ISO 8601, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", utc_now())
