"""Conversations: what a turn's prompt consists of, and that it waits for the reply before it."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import TYPE_CHECKING

from pagedbench.prompt import Segment
from pagedbench.workload.arrivals import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pagedbench.request import Request, SequenceGroup
    from pagedbench.workload.arrivals import Sleeper
    from pagedbench.workload.rows import Row


def with_histories(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows as requests: the prompt of a turn known by its lengths gets the turns before it.

    ::

        a session's text   | human 1 | reply 1 | human 2 | reply 2 | human 3 | reply 3
        prompt of turn 3   |<--------------------------------------------->|

    A turn that asks nothing is no request, but stays in the history of the others.
    """
    lengths: dict[str, int] = {}  # session -> tokens of its text so far
    for row in rows:
        if row.session is None or row.token_ids is not None:
            yield row
            continue
        stop = lengths.get(row.session, 0) + row.prompt_len
        lengths[row.session] = stop + row.output_len
        yield replace(row, prompt_len=stop if row.prompt_len else 0)  # 0: nothing was asked


def conversations(rows: Iterable[Row]) -> list[list[Row]]:
    """The turns of each session together, in order of first appearance; other rows stand alone."""
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
    """Does the next prompt begin with this one, and a reply? Not if its history was cut."""
    prompt, start = following.prompt, turn.prompt
    if prompt.length < turn.final_len:
        return False
    if prompt.token_ids is None or start.token_ids is None:
        return prompt.segments[0] == Segment(start.seed, 0, prompt.length)
    return prompt.token_ids[: start.length] == start.token_ids


class ChatArrivals:
    """Requests some of which wait for others: a person reads a reply before asking again.

    A turn is due at its own time, or when the turn before it has left if that is later; this becomes its
    `arrival_time`. A turn that fails ends as a reply does, so that every request gets a status.

    The trace knows how long replies are, a model what they say: in real execution the model's own replies
    are in the history, the same ones in every system, because all systems emit the same tokens.
    """

    def __init__(self, requests: Sequence[Request], previous: Sequence[int | None]) -> None:
        """`previous`: for every request the one that it waits for; both by request id."""
        self._trace = requests  # as it was made
        self._requests = list(requests)  # with what the model has said
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

    def cancelled(self) -> tuple[int, ...]:
        return ()  # a trace has the patience to wait

    def completed(self, groups: Iterable[SequenceGroup], now: float) -> None:
        for group in groups:
            for request_id in self._followers.pop(group.request.request_id, ()):
                time = max(self._requests[request_id].arrival_time, now)
                heapq.heappush(self._due, (time, request_id))
                self._note_reply(group, request_id)

    def _note_reply(self, group: SequenceGroup, request_id: int) -> None:
        """The next turn's history holds what the model has said, where one has: its best sequence."""
        reply = tuple(group.sequences[0].output_ids)
        following = self._requests[request_id]
        if reply and _continues(following, self._trace[group.request.request_id]):
            prompt = group.request.prompt.continued(reply, following.prompt)
            self._requests[request_id] = replace(following, prompt=prompt)

    @property
    def next_time(self) -> float | None:
        return self._due[0][0] if self._due else None

    def wait(self, clock: Sleeper) -> None:
        wait_until(self.next_time, clock)

    @property
    def has_more(self) -> bool:
        return self._num_left > 0
