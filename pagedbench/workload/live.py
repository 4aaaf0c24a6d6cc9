"""LiveArrivals: requests that clients send and cancel while the engine runs, from other threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pagedbench.workload.arrivals import ArrivalSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pagedbench.request import Request, SequenceGroup
    from pagedbench.workload.arrivals import Sleeper


class LiveArrivals(ArrivalSource):
    """A source that other threads fill. It wakes the idle engine at once."""

    def __init__(self, on_turn: Callable[[Iterable[SequenceGroup], float], None]) -> None:
        """`on_turn`: called by the engine after each turn of its loop, with the groups that have left."""
        self._on_turn = on_turn
        self._news = threading.Condition()
        self._new: dict[int, Request] = {}
        self._cancelled: list[int] = []
        self._is_open = True

    @property
    def num_new(self) -> int:
        """Requests that the engine has not taken yet."""
        return len(self._new)

    def add(self, request: Request) -> None:
        """Add a client's request. The engine takes it before its next iteration."""
        with self._news:
            assert self._is_open, "the source is closed"
            self._new[request.request_id] = request
            self._news.notify()

    def cancel(self, request_id: int) -> None:
        """Cancel a request whose client has gone. The scheduler aborts it before the next iteration."""
        with self._news:
            if self._new.pop(request_id, None) is None:
                self._cancelled.append(request_id)
                self._news.notify()

    def close(self) -> None:
        """Accept no more requests; the engine stops when those that it has are done."""
        with self._news:
            self._is_open = False
            self._news.notify()

    # What the engine calls

    def due(self, now: float) -> list[Request]:
        with self._news:
            new, self._new = self._new, {}
        return list(new.values())

    def cancelled(self) -> list[int]:
        with self._news:
            cancelled, self._cancelled = self._cancelled, []
        return cancelled

    def completed(self, groups: Iterable[SequenceGroup], now: float) -> None:
        self._on_turn(groups, now)

    @property
    def next_time(self) -> None:
        return None  # it is unknown when a client will ask

    def wait(self, clock: Sleeper) -> None:
        with self._news:
            self._news.wait_for(lambda: self._new or self._cancelled or not self._is_open)

    @property
    def has_more(self) -> bool:
        return self._is_open or bool(self._new)
