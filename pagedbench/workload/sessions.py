"""Sessions and closed loops: what a turn's prompt consists of, and which replies a request waits for."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.prompt import Segment
from pagedbench.workload.arrivals import ArrivalSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pagedbench.request import Request, SequenceGroup
    from pagedbench.workload.rows import Row


@dataclass(frozen=True, slots=True)
class Wait:
    """The replies that a request waits for.

    Attributes:
        requests: ids; the request is due when all of them have left, and `pause` seconds later.
        pause: seconds of think or tool time.
        spacing: least seconds between the sending of the last of these requests and the pause.
    """

    requests: tuple[int, ...]
    pause: float = 0.0
    spacing: float = 0.0


@dataclass(frozen=True, slots=True)
class Clients:
    """A closed loop: clients, each of which has one session (or request) at a time.

    Attributes:
        number: how many clients there are.
        pauses: seconds between the end of a client's session and its next one; one per request, but only
            those of first turns count.
    """

    number: int
    pauses: tuple[float, ...]


def with_histories(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows as requests: where only lengths are known, a turn's prompt gets the turns before it.

    ::

        a session's text   | human 1 | reply 1 | human 2 | reply 2 | human 3 | reply 3
        prompt of turn 3   |<--------------------------------------------->|

    A turn without a prompt is not a request, but stays in the history of the later turns.
    """
    lengths: dict[str, int] = {}  # session -> tokens of its text so far
    for row in rows:
        if row.session is None or row.has_whole_prompt:
            yield row
            continue
        stop = lengths.get(row.session, 0) + row.prompt_len
        lengths[row.session] = stop + row.output_len
        yield row._replace(prompt_len=stop if row.prompt_len else 0)  # 0: not a request


def conversations(rows: Iterable[Row]) -> list[list[Row]]:
    """The turns of each session, in order of first appearance; a row without a session stands alone."""
    found: list[list[Row]] = []
    of_session: dict[str, list[Row]] = {}
    for row in rows:
        if row.session in of_session:
            of_session[row.session].append(row)
            continue
        found.append([row])
        if row.session is not None:
            of_session[row.session] = found[-1]
    return found


def _continues(following: Request, turn: Request) -> bool:
    """Does the next prompt begin with this one and a reply? Not if its history was cut."""
    prompt, start = following.prompt, turn.prompt
    if prompt.length < turn.final_len:
        return False
    if prompt.token_ids is None or start.token_ids is None:
        return prompt.segments[0] == Segment(start.seed, 0, prompt.length)
    return prompt.token_ids[: start.length] == start.token_ids


class SessionArrivals(ArrivalSource):
    """Requests of sessions, some of which wait for replies, and sessions of clients in a closed loop.

    A turn is due at its own time or, if that is later, when the requests it waits for have left and its
    pause is over; this becomes its `arrival_time`. A turn follows even one that failed, so that every
    request gets a status.

    In real execution the history of prompts made of lengths or tokens holds the model's replies instead of
    the trace's. They are the same in every system, because all systems emit the same tokens.
    """

    def __init__(
        self, requests: Sequence[Request], waits: Sequence[Wait | None], clients: Clients | None = None
    ) -> None:
        """`waits`: for every request, what it waits for; None begins a session."""
        self._trace = requests  # as the trace has them
        self._requests = list(requests)  # with replies of the model
        self._waits = waits
        self._clients = clients
        self._followers: dict[int, list[int]] = {}
        self._num_missing: dict[int, int] = {}  # request id -> replies that it still waits for
        self._due: list[tuple[float, int]] = []  # a heap of (time, request id)
        self._num_left = len(requests)
        self._root: list[int] = []  # for every request, the first one of its session
        self._num_open: dict[int, int] = {}  # first request of a session -> its requests that have not left
        self._idle: list[int] = []  # first requests of sessions not begun yet, the last one first
        for request, wait in zip(requests, waits, strict=True):
            self._take_in(request, wait)
        self._idle.reverse()
        if clients is not None:
            for _ in range(min(clients.number, len(self._idle))):
                self._begin_next(0.0)

    def _take_in(self, request: Request, wait: Wait | None) -> None:
        own = request.request_id
        if wait is not None:
            self._root.append(self._root[wait.requests[0]])
            self._num_missing[own] = len(wait.requests)
            for before in wait.requests:
                self._followers.setdefault(before, []).append(own)
        else:
            self._root.append(own)
            if self._clients is None:
                heapq.heappush(self._due, (request.arrival_time, own))
            else:
                self._idle.append(own)
        root = self._root[own]
        self._num_open[root] = self._num_open.get(root, 0) + 1

    def _begin_next(self, now: float) -> None:
        assert self._clients is not None
        if self._idle:
            root = self._idle.pop()
            heapq.heappush(self._due, (now + self._clients.pauses[root], root))

    def due(self, now: float) -> list[Request]:
        found = []
        while self._due and self._due[0][0] <= now:
            time, request_id = heapq.heappop(self._due)
            self._requests[request_id] = replace(self._requests[request_id], arrival_time=time)
            found.append(self._requests[request_id])
        self._num_left -= len(found)
        return found

    def completed(self, groups: Iterable[SequenceGroup], now: float) -> None:
        for group in groups:
            done = group.request.request_id
            for request_id in self._followers.pop(done, ()):
                self._note_end(done, request_id, now)
                self._note_reply(group, request_id)
            root = self._root[done]
            self._num_open[root] -= 1
            if self._clients is not None and not self._num_open[root]:
                self._begin_next(now)

    def _note_end(self, done: int, request_id: int, now: float) -> None:
        """Note that a request waits for one reply less; after the last one its time is known."""
        wait, request = self._waits[request_id], self._requests[request_id]
        assert wait is not None
        due = max(now, self._requests[done].arrival_time + wait.spacing) + wait.pause
        self._requests[request_id] = replace(request, arrival_time=max(request.arrival_time, due))
        self._num_missing[request_id] -= 1
        if not self._num_missing[request_id]:
            heapq.heappush(self._due, (self._requests[request_id].arrival_time, request_id))

    def _note_reply(self, group: SequenceGroup, request_id: int) -> None:
        """Put the reply of the model, if there is one, into the history of the next turn."""
        reply = tuple(group.sequences[0].output_ids)
        following = self._requests[request_id]
        if reply and _continues(following, self._trace[group.request.request_id]):
            prompt = group.request.prompt.continued(reply, following.prompt)
            self._requests[request_id] = replace(following, prompt=prompt)

    @property
    def next_time(self) -> float | None:
        return self._due[0][0] if self._due else None

    @property
    def has_more(self) -> bool:
        return self._num_left > 0
