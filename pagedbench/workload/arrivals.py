"""Sources, which hand requests to the engine when they are due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pagedbench.request import Request, SequenceGroup


class Stalled(RuntimeError):
    """Requests are left, none runs, and none will arrive: a bug in a scheduler or memory manager."""


class Sleeper(Protocol):
    """The part of a clock that waiting needs."""

    def sleep_until(self, when: float) -> None: ...


class ArrivalSource(Protocol):
    """Hands requests to the engine when they are due."""

    def due(self, now: float) -> list[Request]:
        """The requests that have arrived by `now` and were not handed over before, in order."""
        ...

    def cancelled(self) -> Iterable[int]:
        """Ids of requests that their clients have cancelled since the last call; none in a trace."""
        return ()

    def completed(self, groups: Iterable[SequenceGroup], now: float) -> None:
        """Note that these groups have left: a client that waited for a reply may send its next request."""
        return

    @property
    def next_time(self) -> float | None:
        """When the next request arrives; None if none is left, or if the next one waits for a reply."""
        ...

    def wait(self, clock: Sleeper) -> None:
        """Return when the idle engine should look again; returning earlier does no harm.

        Raises:
            Stalled: no request will ever arrive.
        """
        if self.next_time is None:
            raise Stalled("requests are left, but the scheduler runs none of them")
        clock.sleep_until(self.next_time)

    @property
    def has_more(self) -> bool:
        """Will another request arrive?"""
        ...


class FixedArrivals(ArrivalSource):
    """Requests at times known beforehand, whatever the engine does (an open loop)."""

    def __init__(self, requests: Sequence[Request]) -> None:
        """`requests`: in order of arrival."""
        times = [request.arrival_time for request in requests]
        assert times == sorted(times), "requests must be in order of arrival"
        self._requests = requests
        self._next = 0

    def due(self, now: float) -> list[Request]:
        start = self._next
        while self._next < len(self._requests) and self._requests[self._next].arrival_time <= now:
            self._next += 1
        return list(self._requests[start : self._next])

    @property
    def next_time(self) -> float | None:
        return self._requests[self._next].arrival_time if self.has_more else None

    @property
    def has_more(self) -> bool:
        return self._next < len(self._requests)
