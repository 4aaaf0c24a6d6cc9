"""Repeating: runs of iterations, known in advance, in which sequences only grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pagedbench.scheduling.agenda import Agenda
from pagedbench.scheduling.batch import Batch, BlockedBy
from pagedbench.scheduling.scheduler import Limits, Scheduler

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.manager import KVManager
    from pagedbench.memory.moves import Copy
    from pagedbench.memory.usage import MemoryUsage
    from pagedbench.request import Sequence

STAYS_REFUSED = (BlockedBy.MEMORY, BlockedBy.SEQUENCES)
"""Reasons that keep the head of the queue waiting for as long as sequences only grow."""


class Growth(NamedTuple):
    """An iteration of a stretch in which sequences got slots, or the stretch's first iteration."""

    number: int  # from 0, within the stretch
    usage: MemoryUsage
    num_evicted: int  # blocks of the prefix cache that lost their contents


class Repeating(Scheduler):
    """A scheduler that decides nothing while no sequence ends and the head of the queue stays refused."""

    def __init__(self, memory: KVManager, limits: Limits) -> None:
        super().__init__(memory, limits)
        self._growths: Agenda[Sequence] = Agenda()  # sequences for which `append` falls due
        self._widest = 1  # most sequences of any group so far
        self._num_evicted = 0  # blocks of the prefix cache, before this iteration

    # Iterations in one go

    def next_alike(self, latest: Batch) -> tuple[Batch, int]:
        """The iteration after `latest`, and the length of the stretch that it begins if no request arrives.

        Nothing is decided in the stretch. It ends before a sequence does, and before a sequence that is not
        alone in its group grows, since it may copy a block.
        """
        members, count = self.members(), self.counter.count
        batch = Batch(
            self._step,
            (),
            members,
            self._stored_len + len(members),
            len(self.running),
            len(self.waiting),
            count + 1,
            blocked_by=latest.blocked_by if self.waiting else BlockedBy.NOTHING,
        )
        is_refused = latest.decodes is members and latest.blocked_by in STAYS_REFUSED
        is_quiet = not (self.num_prefilling or latest.num_swapped or latest.preemptions or self._copies)
        if not (members and is_quiet and (is_refused or not self.waiting) and self.memory.grows_alike):
            return batch, 0
        next_due = self._endings.next_due
        if self._widest > 1:
            next_due = min(next_due, self._growths.next_due)
        return batch, max(int(next_due) - 1 - count, 0)

    def repeat(self, batch: Batch, times: Items[float]) -> tuple[int, list[Growth]]:
        """Run `batch` and iterations like it from each of `times` to the next, while memory suffices.

        Returns how many ran, and those in which sequences got slots. In the others, each sequence fills a
        slot that it has.
        """
        memory, counter, first = self.memory, self.counter, self.counter.count
        width, head_refused = len(batch.decodes), batch.blocked_by.is_memory
        found: list[Growth] = []
        room, i, number = memory.num_appendable, 0, len(times) - 1
        num_counted = 0  # iterations whose tokens memory has counted
        while i < number:
            num_due = self._growths.num_due(first + i + 1)
            if room - num_due < self._widest:
                number = i
                break
            if num_due:
                counter.count = first + i
                memory.start_iteration(times[i])
                copies, room = self.grow_due(), memory.num_appendable
                assert not copies, "a sequence shares the block that it writes into"
            memory.advance((i + 1 - num_counted) * width)
            num_counted = i + 1
            found.append(Growth(i, memory.usage(head_refused=head_refused), self.take_num_evicted()))
            i += 1
            if room >= self._widest:  # else the stretch ends here
                i = self._growths.next_within(first + i + 1, first + number + 1) - first - 1
        memory.advance((number - num_counted) * width)
        counter.count = first + number
        self._step += number
        self._stored_len += number * width
        return number, found

    # Growth

    def can_grow_due(self) -> bool:
        """Is there certainly room for the sequences that have none left in the next iteration?"""
        num_due = self._growths.num_due(self.counter.count + 1)
        return self.memory.num_appendable - num_due >= self._widest  # even the last of them can append

    def take_due(self) -> list[Sequence]:
        """The sequences that have no room left in the next iteration, oldest first."""
        due = self._growths.take(self.counter.count + 1)
        if len(due) > 1:
            due.sort(key=_age)
        return due

    def grow_due(self) -> list[Copy]:
        """Give these sequences room. Returns the copies that this causes."""
        copies: list[Copy] = []
        for sequence in self.take_due():
            copies += self.append(sequence)
        return copies

    def append(self, sequence: Sequence) -> list[Copy]:
        """Give the sequence room. Returns the copies that this causes."""
        copies = self.memory.append(sequence)
        self.plan_growth(sequence)
        return copies

    def plan_growth(self, sequence: Sequence) -> None:
        """Note when the sequence will have filled its room, unless it ends before."""
        room = self.memory.room(sequence)
        if room < sequence.group.final_len - 1 - sequence.num_tokens:
            self._growths.add(self.counter.count + room + 1, sequence)

    def take_num_evicted(self) -> int:
        """Blocks of the prefix cache that have lost their contents since the last call."""
        before, self._num_evicted = self._num_evicted, self.memory.num_evicted
        return self._num_evicted - before


def _age(sequence: Sequence) -> tuple[int, int]:
    return sequence.group.order, sequence.sequence_id
