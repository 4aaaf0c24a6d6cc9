"""A meter of memory that reads what a test says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SLOW, FAST = 36e9, 60e9


class Script:
    """Reads the paces in turn, and the last one ever after."""

    def __init__(self, paces: Iterable[float]) -> None:
        self._paces = list(paces)
        self.num_read = 0

    def read(self) -> float:
        pace = self._paces[min(self.num_read, len(self._paces) - 1)]
        self.num_read += 1
        return pace
