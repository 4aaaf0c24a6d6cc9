"""Conversations: what a turn's prompt consists of, and that it waits for the previous reply."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import TYPE_CHECKING

from pagedbench.prompt import Segment
from pagedbench.workload.arrivals import ArrivalSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pagedbench.request import Request, SequenceGroup
    from pagedbench.workload.rows import Row


def with_histories(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows as requests: where only lengths are known, a turn's prompt gets the turns before it.

    ::

        a session's text   | human 1 | reply 1 | human 2 | reply 2 | human 3 | reply 3
        prompt of turn 3   |<--------------------------------------------->|

    A turn without a prompt is not a request, but stays in the history of the later turns.
    """
    lengths: dict[str, int] = {}  # session -> tokens of its text so far
    for row in rows:
        if row.session is None or row.token_ids is not None:
            yield row
            continue
        stop = lengths.get(row.session, 0) + row.prompt_len
        lengths[row.session] = stop + row.output_len
        yield replace(row, prompt_len=stop if row.prompt_len else 0)  # 0: not a request


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


class ChatArrivals(ArrivalSource):
    """Requests of conversations: a turn waits for the reply to the turn before it.

    A turn is due at its own time or, if that is later, when the turn before it has left; this becomes its
    `arrival_time`. A turn may also follow one that failed, so that every request gets a status.

    In real execution the history holds the model's replies instead of the trace's. They are the same in
    every system, because all systems emit the same tokens.
    """

    def __init__(self, requests: Sequence[Request], previous: Sequence[int | None]) -> None:
        """`previous`: for every request, the id of the one that it waits for."""
        self._trace = requests  # as the trace has them
        self._requests = list(requests)  # with replies of the model
        self._followers: dict[int, list[int]] = {}
        self._due: list[tuple[float, int]] = []  # a heap of (time, request id)
        self._num_left = len(requests)
        for request, before in zip(requests, previous, strict=True):
            if before is None:
                heapq.heappush(self._due, (request.arrival_time, request.request_id))
            else:
                self._followers.setdefault(before, []).append(request.request_id)

    def due(self, now: float) -> list[Request]:
        found = []
        while self._due and self._due[0][0] <= now:
            time, request_id = heapq.heappop(self._due)
            found.append(replace(self._requests[request_id], arrival_time=time))
        self._num_left -= len(found)
        return found

    def completed(self, groups: Iterable[SequenceGroup], now: float) -> None:
        for group in groups:
            for request_id in self._followers.pop(group.request.request_id, ()):
                time = max(self._requests[request_id].arrival_time, now)
                heapq.heappush(self._due, (time, request_id))
                self._note_reply(group, request_id)

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
