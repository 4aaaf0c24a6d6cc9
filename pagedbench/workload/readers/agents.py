"""Agents of a recorded session: sub-agents run in parallel with their parent, until it waits for them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.workload.rows import MAX_LENGTH, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pagedbench.workload.readers.record import Record
    from pagedbench.workload.rows import Row


@dataclass(slots=True, eq=False)
class Agent:
    """An agent, whose requests follow each other. Times in seconds since the beginning of the session.

    Attributes:
        parent: the agent that started this sub-agent; None for the main agent of the session.
        start, end: those of a sub-agent.
        tool_tokens, system_tokens: at the beginning of its prompts; 0 where the trace does not say.
    """

    parent: Agent | None = None
    start: float = 0.0
    end: float = 0.0
    tool_tokens: int = 0
    system_tokens: int = 0

    def set_beginning(self, record: Record) -> None:
        """Read how long the tools and the system prompt are."""
        self.tool_tokens = record.whole("tool_tokens", 0, MAX_LENGTH) or 0
        self.system_tokens = record.whole("system_tokens", 0, MAX_LENGTH) or 0

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1


@dataclass(slots=True)
class Call:
    """One request of an agent. Times in seconds since the beginning of the session.

    Attributes:
        api_time: from sending until the reply; None: not recorded.
        think_time: the recorded time after the agent's own previous reply.
    """

    row: Row
    time: float
    api_time: float | None
    think_time: float | None
    agent: Agent

    @property
    def end(self) -> float | None:
        return None if self.api_time is None else self.time + self.api_time


def turns_of(calls: Sequence[Call]) -> Iterator[Turn]:
    """What each request of a session waits for. The calls are in order of sending.

    ::

        parent      | 0 |------| 1 |                  | 5 |      5 waits for 1, and for 4
        sub-agent          | 2 |--| 3 |--| 4 |                   2 waits for the request that started it: 0

    A request waits for the agent's own previous one. The first request of a sub-agent waits for the latest
    one that its parent sent before it started. The first request of the parent after the end of a sub-agent
    also waits for the sub-agent's last one.
    """
    sent: dict[Agent, list[int]] = {}  # the requests of every agent so far
    ending = _ending(calls)
    for index, call in enumerate(calls):
        own = sent.setdefault(call.agent, [])
        waits = own[-1:] or _starting(calls, sent, call.agent)
        follows_own = bool(own)
        children = ending.get(call.agent, [])
        while children and children[-1][0] <= call.time and children[-1][1] < index:
            waits = [*waits, children.pop()[1]]
            follows_own = False
        own.append(index)
        yield _turn(calls, index, waits, follows_own=follows_own)


def _ending(calls: Sequence[Call]) -> dict[Agent, list[tuple[float, int]]]:
    """For every agent, each sub-agent's end and last request; the first sub-agent to end comes last."""
    last = {call.agent: index for index, call in enumerate(calls)}
    ending: dict[Agent, list[tuple[float, int]]] = {}
    for agent, index in last.items():
        if agent.parent is not None:
            end = max(agent.end, calls[index].time)
            ending.setdefault(agent.parent, []).append((end, index))
    for children in ending.values():
        children.sort(reverse=True)
    return ending


def _starting(calls: Sequence[Call], sent: dict[Agent, list[int]], agent: Agent) -> list[int]:
    """The latest request of the parent that was sent before the agent started, if there is one."""
    before = [] if agent.parent is None else sent.get(agent.parent, [])
    number = bisect_right(before, agent.start, key=lambda index: calls[index].time)
    return before[number - 1 : number] if number else []


def _turn(calls: Sequence[Call], index: int, waits: list[int], *, follows_own: bool) -> Turn:
    """
    Args:
        follows_own: it waits for the agent's own previous request alone.
    """
    if not waits:
        return Turn(index)
    call, latest = calls[index], calls[max(waits)]
    ends = [end for wait in waits if (end := calls[wait].end) is not None]
    think_time = call.think_time if follows_own else None
    if think_time is None and len(ends) == len(waits):
        think_time = max(call.time - max(ends), 0.0)
    return Turn(
        index,
        tuple(sorted(waits)),
        think_time,
        gap=call.time - latest.time,
        api_time=latest.api_time or 0.0,
    )
