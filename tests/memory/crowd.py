"""A crowd of groups in one memory manager: a scheduler that behaves, but decides at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory.contents import Contents, LateDisk, Token
from pagedbench.memory.manager import Allocation, KVManager
from pagedbench.request import DecodeCounter, Sequence, SequenceGroup

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from pagedbench.memory.moves import Copy


class Crowd:
    """Groups arrive, grow, fork, end, are preempted and come back.

    Beside the manager it keeps the tokens themselves: which token of which layer group lies in which slot.
    Reading a sequence's slots must always give that sequence's tokens.
    """

    num_operations = 0

    def __init__(self, memory: KVManager, pinned_slots: frozenset[int] = frozenset()) -> None:
        """`pinned_slots`: those of registered prefixes."""
        self.memory = memory
        self.pinned_slots = pinned_slots
        self.waiting: list[SequenceGroup] = []
        self.running: list[SequenceGroup] = []
        self.swapped: list[SequenceGroup] = []
        self.retired: list[SequenceGroup] = []
        self.counter = DecodeCounter()
        self.contents = Contents()
        if memory.tiers is not None:
            memory.tiers.disk = LateDisk(self.contents)
        self.pinned: dict[int, Token] = {}  # pinned slots that were computed
        self.tokens: dict[Sequence, list[Token]] = {}
        self._num_named = 0
        self._start_iteration()

    def _start_iteration(self) -> None:
        self._copies: list[Copy] = []
        self._swap_outs: list[Copy] = []
        self._swap_ins: list[Copy] = []
        self._forked: set[SequenceGroup] = set()
        self._writes: list[tuple[Sequence, int]] = []  # a sequence, and the first position it computes

    def _count(self) -> None:
        self.num_operations += 1

    def _sequences(self) -> Iterator[Sequence]:
        return (sequence for group in self.running for sequence in group.sequences)

    def _name(self, sequence: Sequence) -> Token:
        """The next token of a reply, which is unique."""
        self._num_named += 1
        return (sequence.group.order, sequence.sequence_id, self._num_named)

    def arrive(self, group: SequenceGroup) -> None:
        """Queue a group, unless it can never fit."""
        before = self.memory.usage(head_refused=False)
        answer = self.memory.can_allocate(group)
        assert self.memory.usage(head_refused=False) == before  # asking changes nothing
        if not (self.running or self.retired):
            assert answer is not Allocation.LATER  # on an empty pool: now or never
        if answer is Allocation.NEVER:
            return
        self.waiting.append(group)
        prompt: list[Token] = group.request.prompt.contents().tolist()
        self.tokens |= {sequence: list(prompt) for sequence in group.sequences}

    def iterate(self, chance: random.Random) -> None:
        """One iteration, in the order that a batch prescribes."""
        self.memory.start_iteration(float(self.counter.count))
        self._make_room(chance)
        self._swap_in(chance)
        self._store_next()
        self._admit(chance)
        self._execute()
        for group in [item for item in self.running if self._has_ended(item)]:
            self._end(group, chance)

    def _store_next(self) -> None:
        """Every sequence that runs stores one more token."""
        self.counter.count += 1
        self.memory.advance(sum(group.num_sequences for group in self.running))
        for sequence in self._sequences():
            self.tokens[sequence].append(self._name(sequence))
            self._writes.append((sequence, sequence.num_stored - 1))

    def _make_room(self, chance: random.Random) -> None:
        if self.running and chance.random() < 0.15:
            self._preempt(self.running.pop(chance.randrange(len(self.running))), chance)
        pending, self.running = self.running, []
        while pending:
            group = pending.pop(0)
            while not self.memory.can_append(group) and pending:
                self._preempt(pending.pop(), chance)
            if not self.memory.can_append(group) and self._num_needed(group) > self.memory.num_appendable:
                self._preempt(group, chance)
                continue
            self.running.append(group)
            for sequence in group.sequences:
                self._append(sequence)

    def _num_needed(self, group: SequenceGroup) -> int:
        return sum(self.memory.room(sequence) == 0 for sequence in group.sequences)

    def _append(self, sequence: Sequence) -> None:
        self._count()
        if self.memory.room(sequence) == 0:
            self._copies += self.memory.append(sequence)
        assert self.memory.room(sequence) > 0

    def _preempt(self, group: SequenceGroup, chance: random.Random) -> None:
        """To the host, or to be computed again with one token more."""
        self._count()
        for sequence in group.sequences:
            sequence.stop()
        if chance.random() < 0.6 and self.memory.can_swap_out(group):
            self._swap_outs += self.memory.swap_out(group)
            self.swapped.append(group)
            return
        for sequence in group.sequences:
            self.memory.free(sequence)
            sequence.extend()
            self.tokens[sequence].append(self._name(sequence))
        self.waiting.insert(0, group)

    def _swap_in(self, chance: random.Random) -> None:
        if self._swap_outs:
            return
        for group in list(self.swapped):
            if chance.random() < 0.7 and self.memory.can_swap_in(group):
                self._count()
                self._swap_ins += self.memory.swap_in(group)
                self.swapped.remove(group)
                self.running.append(group)
                for sequence in group.sequences:
                    sequence.start(self.counter)
                    self._append(sequence)

    def _admit(self, chance: random.Random) -> None:
        while self.waiting and chance.random() < 0.8:
            group = self.waiting[0]
            if not self.memory.is_ready(group):
                return
            if self.memory.can_allocate(group) is not Allocation.OK:
                assert self.running or self.retired  # an empty pool refuses no group
                return
            self._count()
            promised = self.memory.prefill_len(group)
            starts = self.memory.allocate(group)
            num_tokens = group.sequences[0].num_tokens
            assert promised == sum(num_tokens - start for start in starts)
            assert 0 <= starts[0] < num_tokens  # the last token is computed, to sample from
            self.waiting.pop(0)
            self.running.append(group)
            for sequence, start in zip(group.sequences, starts, strict=True):
                sequence.start(self.counter)
                self.memory.mark_computed(sequence, num_tokens)
                self._writes.append((sequence, start))

    def _execute(self) -> None:
        evictions, promotions = self.memory.take_moves()
        self.contents.move(evictions, self._swap_outs, self._swap_ins, promotions, self._copies)
        live, first = dict(self.pinned), dict(self._writes)
        for sequence in self._sequences():
            for number, group in enumerate(self.memory.layer_groups):
                sinks, window = group.kept(first[sequence] + 1)  # what the first new token sees
                before = (sinks, range(window.start, first[sequence]))
                live.update(self._cells(sequence, number, *before))
        for sequence, start in self._writes:
            for number in range(len(self.memory.layer_groups)):
                new = range(start, sequence.num_stored)
                self.contents.write(self._cells(sequence, number, new), live)
        self._start_iteration()
        self._check_contents()

    def _cells(self, sequence: Sequence, layer_group: int, *parts: range) -> list[tuple[int, Token]]:
        """The slots of a sequence's positions in a layer group, each with the token that belongs there."""
        placement, tokens = self.memory.placement(sequence, layer_group), self.tokens[sequence]
        return [
            (slot, (layer_group, token))
            for part in parts
            for slot, token in zip(
                placement.slots(part.start, part.stop), tokens[part.start : part.stop], strict=True
            )
        ]

    def _check_contents(self) -> None:
        """Every sequence reads its own tokens, and no slot is counted twice."""
        used: list[int] = []
        for sequence in self._sequences():
            for number, group in enumerate(self.memory.layer_groups):
                cells = self._cells(sequence, number, *group.kept(sequence.num_stored))
                assert all(self.contents.device[slot] == token for slot, token in cells)
                used += [slot for slot, _ in cells]
        assert self.memory.attention == "paged" or len(set(used)) == len(used)  # extents are not shared
        num_tokens = self.memory.usage(head_refused=False).token_states
        assert num_tokens == len(self.pinned_slots.union(used))
        assert all(0 <= slot < self.memory.num_slots for slot in used)
        self.pinned |= {slot: self.contents.device[slot] for slot in self.pinned_slots.intersection(used)}
        assert all(self.contents.device[slot] == token for slot, token in self.pinned.items())

    def _has_ended(self, group: SequenceGroup) -> bool:
        return group.sequences[0].num_stored >= group.final_len - 1

    def _end(self, group: SequenceGroup, chance: random.Random) -> None:
        self._count()
        self.running.remove(group)
        for sequence in group.sequences:
            sequence.stop()
            if self.memory.has_equal_extents:
                self.memory.retire(sequence)
        self.retired.append(group)
        if not (self.memory.has_equal_extents and self.running) or chance.random() < 0.2:
            self._free_retired()

    def _free_retired(self) -> None:
        for group in self.retired:
            for sequence in group.sequences:
                self.memory.free(sequence)
        self.retired = []

    @property
    def forkable(self) -> list[SequenceGroup]:
        """Groups whose last iteration's samples may still be taken in."""
        return [item for item in self.running if item.num_sequences > 1 and item not in self._forked]

    def fork(self, chance: random.Random) -> None:
        """A step of beam search: winners lend their past to losers; the copies belong to the next batch."""
        group = chance.choice(self.forkable)
        self._forked.add(group)
        parents = chance.choices(group.sequences, k=group.num_sequences)
        losers = [sequence for sequence in group.sequences if sequence not in parents]
        for parent in {item for item in parents if parents.count(item) > 1}:
            for _ in range(parents.count(parent) - 1):
                child = losers.pop()
                self._count()
                self._copies += self.memory.fork(parent, child)
                self.tokens[child] = list(self.tokens[parent])
        assert not losers

    def end(self) -> None:
        """All slots return after the last `free`; a swapped-out group can always return to the device."""
        while self.running or self.swapped or self.retired:
            self._free_retired()
            for sequence in self._sequences():
                sequence.stop()
                self.memory.free(sequence)
            self.running = []
            if self.swapped:
                self._return_alone(self.swapped.pop())
        self.memory.check_integrity()
        usage = self.memory.usage(head_refused=False)
        assert usage.free == self.memory.num_slots - len(self.pinned_slots)
        assert (usage.shared, self.memory.num_owned) == (0, 0)

    def _return_alone(self, group: SequenceGroup) -> None:
        """A swapped group comes back to the empty device, and stores one more token."""
        assert self.memory.can_swap_in(group)
        self._swap_ins += self.memory.swap_in(group)
        self.running.append(group)
        for sequence in group.sequences:
            sequence.start(self.counter)
            self._append(sequence)
        self._store_next()
        self._execute()

    def check(self) -> None:
        """The manager's totals are right, and the parts sum to the capacity."""
        self.memory.check_integrity()
        for refused in (False, True):
            usage = self.memory.usage(head_refused=refused)
            parts = (usage.token_states, usage.reserved, usage.internal, usage.external, usage.free)
            assert min(parts) >= 0
            assert sum(parts) == self.memory.num_slots == usage.capacity
            assert usage.external == usage.rounding + usage.unusable
