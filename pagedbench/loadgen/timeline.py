"""Timeline: when each call of a worker is due; sessions and closed loops. Reads no clock and no socket."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.loadgen.wire import Call


class Timeline:
    """The calls of one worker in the order in which they fall due.

    Args:
        calls: the calls of whole sessions, each after the one that it waits for.
        num_clients: clients of a closed loop: each runs one session at a time, and the next one begins the
            `delay` of its first call after one has ended. None: an open loop.

    Attributes:
        num_soon: calls that were not taken and are due up to the time given to `look_ahead`.
    """

    def __init__(self, calls: Sequence[Call], num_clients: int | None = None) -> None:
        self._due: list[tuple[float, int, Call]] = []  # a heap; the number keeps the order of equal times
        self._ahead: list[float] = []  # a heap of the due times that are not counted in `num_soon`
        self._num_pushed = self.num_soon = 0
        self._followers: dict[int, list[Call]] = {}
        self._root: dict[int, int] = {}  # request id -> the first of its session
        self._num_open: dict[int, int] = {}  # first request of a session -> its calls that have not ended
        self._idle: deque[Call] | None = None if num_clients is None else deque()
        for call in calls:
            self._take_in(call)
        for _ in range(num_clients or 0):
            self._begin_session(0.0)

    def _take_in(self, call: Call) -> None:
        own = call.request_id
        root = self._root[own] = own if call.after is None else self._root[call.after]
        self._num_open[root] = self._num_open.get(root, 0) + 1
        if call.after is not None:
            self._followers.setdefault(call.after, []).append(call)
        elif self._idle is not None:
            self._idle.append(call)
        else:
            self._push(call.due, call)

    def _push(self, when: float, call: Call) -> None:
        heapq.heappush(self._due, (when, self._num_pushed, call))
        heapq.heappush(self._ahead, when)
        self._num_pushed += 1

    def _begin_session(self, now: float) -> None:
        if self._idle:
            call = self._idle.popleft()
            self._push(now + call.delay, call)

    @property
    def next_time(self) -> float:
        """When the next call is due; infinite if all others wait for replies."""
        return self._due[0][0] if self._due else float("inf")

    @property
    def next_ahead(self) -> float:
        """The first due time that `look_ahead` has not reached."""
        return self._ahead[0] if self._ahead else float("inf")

    def look_ahead(self, until: float) -> None:
        """Count in `num_soon` the calls that are due up to that time."""
        while self._ahead and self._ahead[0] <= until:
            heapq.heappop(self._ahead)
            self.num_soon += 1

    def take(self) -> tuple[float, Call]:
        """The next call and the time at which it is due."""
        when, _, call = heapq.heappop(self._due)
        if self._ahead and self._ahead[0] <= when:
            heapq.heappop(self._ahead)
        else:
            self.num_soon -= 1
        return when, call

    def ended(self, call: Call, now: float, *, has_failed: bool) -> list[Call]:
        """Note that the reply to a call has ended, so that calls after it fall due. Returns the calls that
        are given up because they wait for a failed one.
        """
        given_up, pending = [], [call]
        root = self._root[call.request_id]
        while pending:
            done = pending.pop()
            self._num_open[root] -= 1
            for follower in self._followers.pop(done.request_id, ()):
                if has_failed:
                    given_up.append(follower)
                    pending.append(follower)
                else:
                    self._push(max(follower.due, now + follower.delay), follower)
        if not self._num_open[root]:
            self._begin_session(now)
        return given_up

    def rest(self) -> list[Call]:
        """Take all remaining calls."""
        left = [call for _, _, call in sorted(self._due)]
        left += [call for calls in self._followers.values() for call in calls]
        left += self._idle or ()
        self._due, self._ahead, self._followers, self._idle, self.num_soon = [], [], {}, None, 0
        return left


def shares(calls: Sequence[Call], num_workers: int, num_clients: int | None = None) -> list[list[Call]]:
    """The calls of each worker: whole sessions, distributed in turn in the order in which they begin.

    With clients there are at most as many workers as clients; see `clients_of`.
    """
    number = num_workers if num_clients is None else min(num_workers, num_clients)
    dealt: list[list[Call]] = [[] for _ in range(number)]
    of_request: dict[int, int] = {}
    num_sessions = 0
    for call in calls:
        if call.after is None:
            # A client's sessions are in one worker: worker `i` has the clients i, i + number, ...
            client = num_sessions if num_clients is None else num_sessions % num_clients
            of_request[call.request_id] = client % number
            num_sessions += 1
        else:
            of_request[call.request_id] = of_request[call.after]
        dealt[of_request[call.request_id]].append(call)
    return [share for share in dealt if share]


def clients_of(worker: int, num_workers: int, num_clients: int) -> int:
    """How many of the clients a worker has, if they are distributed in turn."""
    return len(range(worker, num_clients, num_workers))
