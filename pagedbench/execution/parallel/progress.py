"""Progress: how far each rank is in an iteration, and which one keeps all others waiting for too long."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LATE = 8.0
"""Seconds of being waited for after which a rank counts as hanging, unless the others took as long."""

LATE_ON_GPU = 60.0
"""The same where kernels are compiled when they first run, which may delay one rank and not another."""

TIMES = 4.0
"""A rank may take this many times as long as rank 0 between two exchanges: cores may be shared."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a rank is.

    Attributes:
        num_exchanges: exchanges with the other ranks that it has begun; all ranks begin the same ones.
        is_excused: may it be late? Loading and disks take any time, and rank 0 waits for requests.
    """

    num_exchanges: int = 0
    is_excused: bool = False

    def __str__(self) -> str:
        return f"{self.num_exchanges} {int(self.is_excused)}"

    @classmethod
    def parsed(cls, text: str) -> Standing:
        """The inverse of `str`; an empty text, of a rank not yet heard from, means the beginning."""
        number, is_excused = text.split() if text else ("0", "1")
        return cls(int(number), is_excused == "1")


class Progress:
    """Counts the exchanges of this rank, for the thread that listens or sends heartbeats.

    Attributes:
        seconds: time between the last two exchanges.
    """

    def __init__(self, *, is_excused: bool = False) -> None:
        self.standing = Standing(0, is_excused)
        self.seconds = 0.0
        self.limit = LATE
        self._clock = WallClock()
        self._left = 0.0

    def begin_exchange(self) -> None:
        self.seconds = self._clock.now - self._left
        self.standing = Standing(self.standing.num_exchanges + 1, self.standing.is_excused)

    def end_exchange(self) -> None:
        self._left = self._clock.now

    @contextmanager
    def excused(self, is_excused: bool) -> Iterator[None]:
        """Set whether the rank may be late within the block."""
        before = self.standing.is_excused
        self.standing = Standing(self.standing.num_exchanges, is_excused)
        yield
        self.standing = Standing(self.standing.num_exchanges, before)


class Stragglers:
    """Looks for ranks that do not join the exchange in which rank 0 waits for them."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[Standing, float]] = {}  # rank -> where it is, and since when

    def restart(self) -> None:
        """Forget all waiting times, because all ranks were stopped."""
        self._since.clear()

    def late(self, own: Progress, others: Mapping[int, Standing], now: float) -> dict[int, float]:
        """Ranks that keep rank 0 waiting in an iteration for too long, and for how many seconds.

        All ranks compute the same amount between two exchanges. So a rank is late by the time that it takes
        longer than rank 0.
        """
        found = {}
        for rank, standing in others.items():
            is_behind = standing.num_exchanges < own.standing.num_exchanges
            if not is_behind or standing.is_excused or own.standing.is_excused:
                self._since.pop(rank, None)
                continue
            before, since = self._since.setdefault(rank, (standing, now))
            if before != standing:
                self._since[rank] = (standing, now)
            elif now - since > max(own.limit, TIMES * own.seconds):
                found[rank] = now - since
        return found
