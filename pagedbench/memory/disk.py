"""Disk: what a memory manager asks of the file behind its host tier; an engine may have none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.moves import Copy


MAX_STAGED = 2**32
"""Bytes that may wait in memory to be written; what is evicted while they do is lost."""


class Sleeper(Protocol):
    """A clock, as far as waiting is concerned."""

    @property
    def now(self) -> float: ...

    def sleep_until(self, when: float) -> None: ...


class Disk(Protocol):
    """Moves blocks between memory and a file, beside the iterations. One read is under way at a time."""

    @property
    def room(self) -> int:
        """Slots whose writing may be begun now; more would pile up in front of the disk."""
        ...

    def write(self, copies: Items[Copy]) -> None:
        """Begin to write slots of the device or the host; they may be overwritten once this returns."""
        ...

    def read(self, copies: Items[Copy]) -> None:
        """Begin to read slots of the disk into slots of the host, after what is written to them."""
        ...

    def poll(self) -> bool | None:
        """Whether the read has succeeded, told once when it has ended; None before that."""
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
