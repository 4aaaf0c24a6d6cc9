"""What every memory manager promises, over thousands of random operations."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pagedbench.config import RunConfig
from pagedbench.memory.contiguous import EqualExtents
from pagedbench.memory.manager import Allocation, Copy
from pagedbench.plan import DEFAULT_KV_SLOTS
from pagedbench.request import DecodeCounter, Prompt, Request, SamplingParams, Sequence, SequenceGroup
from pagedbench.systems import SYSTEMS, build_memory

MAX_MODEL_LEN = 96


class ManagerMachine(RuleBasedStateMachine):
    """A scheduler that behaves, but decides at random: admit, grow, fork, end and preempt.

    Beside the manager it keeps the tokens themselves: which token lies in which slot. Reading a
    sequence's slots must always give that sequence's tokens.
    """

    system = ""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[SequenceGroup] = []
        self.counter = DecodeCounter()
        self.num_requests = 0
        self.slots: dict[int, tuple[object, ...]] = {}  # slot -> the token in it
        self.tokens: dict[Sequence, list[tuple[object, ...]]] = {}

    @initialize(
        num_slots=st.integers(8, 400),
        block_size=st.sampled_from([1, 2, 3, 8, 16]),
        batch_size=st.integers(1, 5),
    )
    def build(self, num_slots: int, block_size: int, batch_size: int) -> None:
        num_slots = max(num_slots, block_size, batch_size)
        config = RunConfig(
            system=self.system, block_size=block_size, max_model_len=MAX_MODEL_LEN, batch_size=batch_size
        )
        self.memory = build_memory(config, num_slots)
        assert self.memory.num_slots == num_slots - num_slots % block_size
        self.capacity = self.memory.num_slots

    def _group(self, prompt_len: int, output_len: int, n: int = 1) -> SequenceGroup:
        request = Request(self.num_requests, 0.0, Prompt(prompt_len), SamplingParams(output_len, n))
        self.num_requests += 1
        return SequenceGroup(request, order=request.request_id)

    def _sequences(self) -> list[Sequence]:
        return [sequence for group in self.running for sequence in group.sequences]

    @rule(prompt_len=st.integers(1, 70), output_len=st.integers(1, 40), n=st.integers(1, 3))
    def admit(self, prompt_len: int, output_len: int, n: int) -> None:
        group = self._group(prompt_len, output_len, n)
        before = self.memory.usage(head_refused=False)
        answer = self.memory.can_allocate(group)
        assert self.memory.usage(head_refused=False) == before  # asking changes nothing
        if not self.running:
            assert answer is not Allocation.LATER  # on an empty pool: now or never
        if answer is not Allocation.OK:
            return
        self.memory.allocate(group)
        self.running.append(group)
        for sequence in group.sequences:
            sequence.start(self.counter)
            self.tokens[sequence] = [(group.order, i) for i in range(prompt_len)]
            self._write(sequence, 0, prompt_len)

    def _write(self, sequence: Sequence, start: int, stop: int) -> None:
        slots = self.memory.placement(sequence).slots(start, stop)
        for slot, token in zip(slots, self.tokens[sequence][start:stop], strict=True):
            assert 0 <= slot < self.capacity
            self.slots[slot] = token

    @precondition(lambda self: self.running)
    @rule()
    def decode(self) -> None:
        """Every sequence stores one more token; groups for which there is no room are preempted first."""
        for group in [group for group in self.running if self._has_ended(group)]:
            self._leave(group)
        served: list[SequenceGroup] = []
        while self.running:
            group = self.running.pop(0)
            while not self.memory.can_append(group) and self.running:
                self._drop(self.running.pop())
            if not self.memory.can_append(group) and self._num_needed(group) > self.memory.num_appendable:
                self._drop(group)
                continue
            served.append(group)
            for sequence in group.sequences:
                self._append(sequence)
        self.running = served
        self.counter.count += 1
        self.memory.advance(len(self._sequences()))
        for sequence in self._sequences():
            self.tokens[sequence].append((sequence.group.order, sequence.sequence_id, self.counter.count))
            self._write(sequence, sequence.num_stored - 1, sequence.num_stored)

    def _num_needed(self, group: SequenceGroup) -> int:
        return sum(self.memory.room(sequence) == 0 for sequence in group.sequences)

    def _append(self, sequence: Sequence) -> None:
        if self.memory.room(sequence) == 0:
            for copy in self.memory.append(sequence):
                assert copy.num_slots > 0
                self._copy(copy)
        assert self.memory.room(sequence) > 0

    def _copy(self, copy: Copy) -> None:
        for i in range(copy.num_slots):
            self.slots[copy.destination + i] = self.slots[copy.source + i]

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        """A sequence of a group is replaced by a child of another: a step of beam search."""
        groups = [group for group in self.running if group.num_sequences > 1]
        if not groups:
            return
        group = data.draw(st.sampled_from(groups))
        parent, loser = group.sequences[0], group.sequences[-1]
        if self.memory.attention == "contiguous":
            for copy in self.memory.fork(parent, loser):
                self._copy(copy)
            self.tokens[loser] = list(self.tokens[parent])
            return
        child = Sequence(loser.sequence_id, group)
        self.memory.free(loser)
        loser.stop()
        child._offset = parent.num_stored
        child.start(self.counter)
        assert self.memory.fork(parent, child) == []
        self.tokens[child] = list(self.tokens[parent])
        group.sequences[-1] = child

    def _has_ended(self, group: SequenceGroup) -> bool:
        return group.sequences[0].num_stored >= group.final_len - 1

    def _drop(self, group: SequenceGroup) -> None:
        for sequence in group.sequences:
            sequence.stop()
            self.memory.free(sequence)

    def _leave(self, group: SequenceGroup) -> None:
        self.running.remove(group)
        self._drop(group)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def preempt(self, data: st.DataObject) -> None:
        self._leave(data.draw(st.sampled_from(self.running)))

    @rule()
    def empty(self) -> None:
        """Everything comes back after the last `free`."""
        for group in list(self.running):
            self._leave(group)
        usage = self.memory.usage(head_refused=False)
        assert usage.free == self.capacity
        assert usage.shared == 0

    @invariant()
    def totals_are_right(self) -> None:
        if not hasattr(self, "memory"):
            return
        self.memory.check_integrity()
        for refused in (False, True):
            usage = self.memory.usage(head_refused=refused)
            parts = (usage.token_states, usage.reserved, usage.internal, usage.external, usage.free)
            assert min(parts) >= 0
            assert sum(parts) == self.capacity == usage.capacity
            assert usage.external == usage.rounding + usage.unusable

    @invariant()
    def everybody_reads_their_own_tokens(self) -> None:
        owners: Counter[int] = Counter()
        distinct: set[int] = set()
        for sequence in self._sequences():
            slots = self.memory.placement(sequence).slots(0, sequence.num_stored)
            assert [self.slots[slot] for slot in slots] == self.tokens[sequence]
            owners.update(slots)
            distinct.update(slots)
        if not hasattr(self, "memory"):
            return
        assert self.memory.usage(head_refused=False).token_states == len(distinct)
        if self.memory.attention == "contiguous":
            assert max(owners.values(), default=1) == 1  # nothing is shared


@pytest.mark.parametrize("system", SYSTEMS)
def test_contract(system: str) -> None:
    machine = type("Machine", (ManagerMachine,), {"system": system})
    case = machine.TestCase
    case.settings = settings(
        max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    case("runTest").runTest()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_capacity_for_every_system(system: str) -> None:
    config = RunConfig(system=system, max_model_len=2048, batch_size=7)
    assert build_memory(config, DEFAULT_KV_SLOTS).usage(head_refused=False).free == DEFAULT_KV_SLOTS


def test_retired_tokens_are_internal_until_the_batch_ends() -> None:
    memory = EqualExtents(64, 16, 32, batch_size=2)
    group = SequenceGroup(Request(0, 0.0, Prompt(4), SamplingParams(3)), order=0)
    memory.allocate(group)
    memory.advance(1)
    sequence = group.sequences[0]
    counter = DecodeCounter()
    sequence.start(counter)
    counter.count += 1
    sequence.stop()
    live = memory.usage(head_refused=False)
    assert (live.token_states, live.reserved, live.internal, live.free) == (5, 2, 25, 32)
    memory.retire(sequence)
    dead = memory.usage(head_refused=False)
    assert (dead.token_states, dead.reserved, dead.internal, dead.free) == (0, 0, 32, 32)
    memory.free(sequence)
    assert memory.usage(head_refused=False).free == 64
