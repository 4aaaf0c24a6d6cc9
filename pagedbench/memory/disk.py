"""Disk: what a memory manager asks of the file behind its host tier; an engine may have none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.moves import Copy


MAX_STAGED = 2**32
"""Most bytes that may wait in memory to be written; blocks evicted beyond them are lost."""


class Sleeper(Protocol):
    """The part of a clock that waiting needs."""

    @property
    def now(self) -> float: ...

    def sleep_until(self, when: float) -> None: ...


class Disk(Protocol):
    """Moves blocks between memory and a file while iterations run. At most one read is under way."""

    @property
    def room(self) -> int:
        """Slots that may be written now; more would pile up in front of the disk."""
        ...

    def write(self, copies: Items[Copy]) -> None:
        """Begin to write slots of the device or the host; they may be overwritten once this returns."""
        ...

    def read(self, copies: Items[Copy]) -> None:
        """Begin to read slots of the disk into slots of the host, after pending writes to these slots."""
        ...

    def poll(self) -> bool | None:
        """Whether the read has succeeded: returned once, when it has ended; None before and after that."""
        ...

    def wait(self, clock: Sleeper, until: float | None) -> bool:
        """Return when the read under way has ended, or earlier, at the latest at the time `until`.

        Returns False, at once, if none is under way.
        """
        ...

    def close(self) -> None:
        """The run is over: nothing more is written or read."""
        ...


class NoDisk:
    """The disk of an engine without one."""

    room = 0

    def write(self, copies: Items[Copy]) -> None:
        raise NotImplementedError("there is no disk to write to")

    def read(self, copies: Items[Copy]) -> None:
        raise NotImplementedError("there is no disk to read from")

    def poll(self) -> bool | None:
        return None

    def wait(self, clock: Sleeper, until: float | None) -> bool:
        return False

    def close(self) -> None:
        pass
