"""A meter of memory bandwidth that reads what a test says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SLOW, FAST = 36e9, 60e9


class Script:
    """Reads the bandwidths in turn, and the last one ever after."""

    def __init__(self, readings: Iterable[float | None]) -> None:
        self._readings = list(readings)
        self.num_read = 0

    def read(self) -> float | None:
        reading = self._readings[min(self.num_read, len(self._readings) - 1)]
        self.num_read += 1
        return reading
