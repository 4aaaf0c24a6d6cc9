"""Synthesized traffic: bursts, sessions of agents, and prompts that share a tree of prefixes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pagedbench.workload.bundled import traces_folder
from pagedbench.workload.rows import BlockIds, Row, TraceError, Turn
from pagedbench.workload.seeds import Stream, generator
from pagedbench.workload.synth import MAX_ROWS, LengthModel, QuantileTable, lengths_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BLOCK_SIZE = 512
"""Tokens per block id of a synthesized trace."""

RECENT = 400
"""A request of the tree continues one of this many before it."""

SUBAGENT_SHARE, SUBAGENT_TURNS = 0.1, 8
"""The share of sessions with a sub-agent, and the turns of a sub-agent."""


@dataclass(slots=True)
class _Tables:
    """The quantiles of a set, and the random numbers by which it is sampled."""

    facts: dict[str, Any]
    levels: tuple[float, ...]
    numbers: np.random.Generator

    def table(self, name: str) -> QuantileTable:
        return QuantileTable(self.levels, tuple(self.facts[name]))

    def sample(self, name: str, count: int) -> NDArray[np.float64]:
        """One value from each of `count` equal slices of probability, in random order.  # [count]"""
        levels = (self.numbers.permutation(count) + self.numbers.random(count)) / count
        return self.table(name).values(levels)

    def lengths(self, name: str, count: int) -> list[int]:
        found: list[int] = np.rint(self.sample(name, count)).astype(np.int64).tolist()
        return found


def synthesize_traffic(name: str, num_rows: int, seed: int) -> list[Row]:
    """Sample a trace of `TRAFFIC`.

    Raises:
        TraceError: the number of rows or the seed is impossible.
    """
    if not 1 <= num_rows <= MAX_ROWS:
        raise TraceError(f"the number of rows is {num_rows}, but must be 1 to {MAX_ROWS:,}")
    content = json.loads(traces_folder().joinpath("traffic.json").read_text(encoding="utf-8"))
    levels = tuple(percent / 100 for percent in content["quantile_levels_percent"])
    tables = _Tables(content["sets"][name], levels, generator(seed, Stream.LENGTHS))
    return TRAFFIC[name](tables, num_rows)


def traffic_source(name: str) -> str:
    """The source of a set of `TRAFFIC`, in words."""
    content = json.loads(traces_folder().joinpath("traffic.json").read_text(encoding="utf-8"))
    return str(content["sets"][name]["source"])


def _bursty(tables: _Tables, num_rows: int) -> list[Row]:
    """Requests in bursts: gaps of the published distribution, in random order."""
    facts = tables.facts["lengths"]
    prompt, output = (QuantileTable(tables.levels, tuple(facts[name])) for name in ("prompt", "output"))
    model = LengthModel(prompt, output, facts["normal_score_correlation"], facts["max_total"], "")
    times = np.cumsum(tables.sample("gap_s", num_rows)).round(6).tolist()
    rows = lengths_of(model, num_rows, tables.numbers)
    return [row._replace(arrival_time=time) for row, time in zip(rows, times, strict=True)]


def _prefix_tree(tables: _Tables, num_rows: int) -> list[Row]:
    """Requests of which a share continues an earlier one; all begin with the same block."""
    numbers = tables.numbers
    times = np.cumsum(numbers.standard_exponential(num_rows) / tables.facts["rate"]).round(3).tolist()
    fresh, added, outputs = (
        tables.lengths(name, num_rows) for name in ("first_prompt", "added_prompt", "output")
    )
    continues = (numbers.random(num_rows) < tables.facts["continued"]).tolist()
    ids: list[tuple[int, ...]] = []
    next_id, rows = 1, list[Row]()
    for index in range(num_rows):
        start: tuple[int, ...] = (0,)
        if continues[index] and index:
            start = ids[int(numbers.integers(max(index - RECENT, 0), index))][:-1] or (0,)
        length = BLOCK_SIZE * len(start) + added[index] if continues[index] else fresh[index]
        own, next_id = _extended(start, length, next_id)
        ids.append(own)
        rows.append(
            Row(length, outputs[index], arrival_time=times[index], blocks=BlockIds(own, BLOCK_SIZE))
        )
    return rows


def _extended(start: tuple[int, ...], length: int, next_id: int) -> tuple[tuple[int, ...], int]:
    """The ids of a prompt that begins with the blocks `start`, and the next free id."""
    num_new = max(-(-length // BLOCK_SIZE) - len(start), 0)
    kept = start[: -(-length // BLOCK_SIZE)]
    return (*kept, *range(next_id, next_id + num_new)), next_id + num_new


def _agentic(tables: _Tables, num_rows: int) -> list[Row]:
    """Sessions of an agent, each of whose prompts continues the one before; some have a sub-agent."""
    rows: list[Row] = []
    prompts = _Prompts(tables.facts["tool_and_system"])
    number = 0
    while len(rows) < num_rows:
        session = _session(tables, prompts, f"agent-{number}")
        rows += session[: num_rows - len(rows)]
        number += 1
    known: dict[int, int] = {}  # ids in order of appearance, as readers number them
    return [
        row._replace(
            blocks=BlockIds(tuple(known.setdefault(i, len(known)) for i in row.blocks.ids), BLOCK_SIZE)
        )
        for row in rows
        if row.blocks is not None
    ]


class _Prompts:
    """Numbers the blocks of agents' prompts: tools and system prompts of one kind are the same for all."""

    def __init__(self, kinds: list[list[int]]) -> None:
        self.kinds = [sum(kind) for kind in kinds]  # tokens of tools and system prompt together
        self._shared: list[tuple[int, ...]] = []
        self._next = 0
        for length in self.kinds:
            self._shared.append(self.continued((), length // BLOCK_SIZE * BLOCK_SIZE))

    def first(self, kind: int, length: int) -> tuple[int, ...]:
        return self.continued(self._shared[kind], length)

    def continued(self, start: tuple[int, ...], length: int) -> tuple[int, ...]:
        own, self._next = _extended(start, length, self._next)
        return own


def _session(tables: _Tables, prompts: _Prompts, name: str) -> list[Row]:
    """The turns of a session in order of sending, those of a sub-agent between its parent's."""
    numbers = tables.numbers
    kind = int(numbers.integers(len(prompts.kinds)))
    num_turns = int(tables.table("turns").lengths(numbers.random(1))[0])
    parent = _turns(tables, prompts, name, num_turns, kind)
    if numbers.random() >= SUBAGENT_SHARE or len(parent) < 3:
        return parent
    start = int(numbers.integers(1, len(parent) - 1))  # the turn that starts the sub-agent
    agent = _turns(tables, prompts, name, SUBAGENT_TURNS, int(numbers.integers(len(prompts.kinds))))
    shift = len(parent)
    for index, row in enumerate(agent):
        assert row.turn is not None
        before = (shift + index - 1,) if index else (start,)
        agent[index] = row._replace(turn=replace(row.turn, index=shift + index, waits_for=before))
    joining = parent[start + 1]
    assert joining.turn is not None
    waits_for = (start, shift + len(agent) - 1)
    parent[start + 1] = joining._replace(turn=replace(joining.turn, waits_for=waits_for))
    return [*parent[: start + 1], *agent, *parent[start + 1 :]]


def _turns(tables: _Tables, prompts: _Prompts, name: str, num_turns: int, kind: int) -> list[Row]:
    """The turns of one agent, until its prompt would be longer than any model reads."""
    levels = tables.numbers.random((5, num_turns))
    first, added, output = (
        tables.table(column).lengths(levels[i]).tolist()
        for i, column in enumerate(("first_prompt", "added_prompt", "output"))
    )
    think, api = (
        tables.table(column).values(levels[3 + i]).round(2).tolist()
        for i, column in enumerate(("think_s", "api_s"))
    )
    longest = tables.facts["max_prompt"]
    length = min(max(first[0], prompts.kinds[kind] + 64), longest // 2)
    ids, rows = prompts.first(kind, length), list[Row]()
    for index in range(num_turns):
        if index:
            length += output[index - 1] + added[index]
            ids = prompts.continued(ids[:-1], length)
        if length > longest:
            break
        waits_for = (index - 1,) if index else ()
        times = (think[index], round(api[index - 1] + think[index], 2), api[index - 1]) if index else ()
        turn = Turn(index, waits_for, *times)
        rows.append(Row(length, output[index], session=name, blocks=BlockIds(ids, BLOCK_SIZE), turn=turn))
    return rows


TRAFFIC: dict[str, Callable[[_Tables, int], list[Row]]] = {
    "bursty": _bursty,
    "agentic": _agentic,
    "prefix-tree": _prefix_tree,
}
"""Sets of traffic by name."""
