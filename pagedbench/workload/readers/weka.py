"""Sessions of coding agents as Weka recorded them: one JSON document per session, sub-agents included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagedbench.workload.readers.agents import Agent, Call, turns_of
from pagedbench.workload.readers.block_lines import blocks_of
from pagedbench.workload.readers.block_numbers import BlockNumbers
from pagedbench.workload.readers.record import Record, record_of
from pagedbench.workload.readers.shared_blocks import SessionBlocks, SharedBlocks
from pagedbench.workload.rows import BlockIds, Row, RowMemory, TraceError, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK_SIZE = 64

SESSION_FIELDS = ("id", "block_size", "tool_tokens", "system_tokens")
"""The fields of a session, besides its requests, that are used."""

MAX_DEPTH = 8
"""Sub-agents may have sub-agents, but not more levels of them."""

MAX_BLOCKS = 3_000_000
"""Most different blocks of a session."""


def is_session(first_request: object) -> bool:
    """Does the first request of a JSON document say that it is a session?"""
    return isinstance(first_request, dict) and "t" in first_request and "type" in first_request


class WekaSessions:
    """Reads sessions, one after the other."""

    def __init__(self, source: str, block_size: int | None = None) -> None:
        """
        Args:
            source: the file or folder, for error messages.
            block_size: tokens per block where a session does not say; 64 by default.
        """
        self._block_size = block_size or BLOCK_SIZE
        self._memory = RowMemory(source)
        self._shared = SharedBlocks()
        self._names: set[str] = set()

    def begin(self, source: str, fields: dict[str, Any]) -> WekaSession:
        """A session that is read from a file.

        Args:
            fields: what precedes its requests.
        """
        block_size = Record(fields, source).block_size() or self._block_size
        return WekaSession(source, block_size, self._memory, self._shared)

    def rows(
        self, session: WekaSession, fields: dict[str, Any], file_name: str, *, timed: bool
    ) -> list[Row]:
        """The rows of a session that was read, in order of sending.

        Args:
            fields: all fields of the session.
            file_name: the name of a session that has no id.
            timed: read arrival times too, which count from the beginning of the session.

        Raises:
            TraceError: a field is malformed, or another session has the same id.
        """
        record = Record(fields, session.source)
        name = record.name("id") if record.has("id") else file_name
        if name in self._names:
            raise record.error("id", "another session of the trace has the same")
        self._names.add(name)
        if (record.block_size() or session.block_size) != session.block_size:
            raise record.error("block_size", "it must stand before the requests")
        session.root.set_beginning(record)
        return session.rows(name, timed=timed)


class WekaSession:
    """Reads the requests of one session, and decides which replies each of them waits for."""

    def __init__(self, source: str, block_size: int, memory: RowMemory, shared: SharedBlocks) -> None:
        """
        Args:
            memory, shared: those of all sessions.
        """
        self.source = source
        self.block_size = block_size
        self.root = Agent()
        self._memory = memory
        self._numbers = BlockNumbers(source, shared.num_blocks, MAX_BLOCKS)
        self._blocks = SessionBlocks(shared, shared.num_blocks, block_size)
        self._calls: list[Call] = []

    def add_requests(self, values: Iterable[object]) -> None:
        """Read the list of requests, one after the other.

        Raises:
            TraceError: a request is malformed.
        """
        for number, value in enumerate(values, start=1):
            self._add(record_of(value, f"{self.source} request {number}"), self.root, 0.0)

    def _add(self, record: Record, agent: Agent, offset: float) -> None:
        """Read a request or a sub-agent; `offset` is added to its times."""
        if record.fields.get("type") == "subagent":
            self._add_agent(record, agent, offset)
            return
        time = record.time("t") + offset
        api_time = record.optional_time("api_time")
        if api_time is None:
            api_time = record.optional_time("ttft")
        row = Row(
            record.length("in"),
            record.length("out"),
            blocks=blocks_of(record, "in", self.block_size, self._numbers),
            turn=Turn(0),
        )
        self._memory.add(row)
        self._calls.append(Call(row, time, api_time, record.optional_time("think_time"), agent))

    def _add_agent(self, record: Record, parent: Agent, offset: float) -> None:
        """Read a sub-agent: its `t` is its end; the times of its requests may count from its start."""
        requests = record.records("requests")
        if parent.depth == MAX_DEPTH:
            raise TraceError(f"{record.place} has more than {MAX_DEPTH} levels of sub-agents")
        if not requests:
            return
        end = record.time("t") + offset
        duration = record.optional_time("duration_ms", unit=1e-3)
        first = requests[0].time("t")
        if duration is None:
            duration = max(requests[-1].time("t") - first, 0.0)
        start = end - duration
        agent = Agent(parent, start, end)
        agent.set_beginning(record)
        is_absolute = abs(first + offset - start) < abs(first)
        for request in requests:
            self._add(request, agent, offset if is_absolute else start)

    def rows(self, name: str, *, timed: bool) -> list[Row]:
        """The rows in order of sending; `name` is that of the session."""
        calls = self._calls
        calls.sort(key=lambda call: (call.time, call.agent.depth))
        self._share()
        for call, turn in zip(calls, turns_of(calls), strict=True):
            row = call.row
            assert row.blocks is not None
            call.row = Row(
                row.prompt_len,
                row.output_len,
                arrival_time=call.time if timed else None,
                session=name,
                blocks=BlockIds(self._blocks.of(row.blocks.ids), row.blocks.size),
                turn=turn,
            )
        return [call.row for call in calls]

    def _share(self) -> None:
        """Take the blocks of tools and system prompt from the first request of each agent that has both."""
        seen: set[Agent] = set()
        for call in self._calls:
            agent, row = call.agent, call.row
            if agent not in seen and row.prompt_len > agent.tool_tokens + agent.system_tokens:
                seen.add(agent)
                assert row.blocks is not None
                self._blocks.share(row.blocks.ids, agent.tool_tokens, agent.system_tokens)
