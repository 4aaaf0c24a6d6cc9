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

STAYS_REFUSED = (BlockedBy.MEMORY, BlockedBy.FRAGMENTATION, BlockedBy.SEQUENCES)
"""Reasons that keep the head of the queue waiting for as long as sequences only grow."""


class Stretch(NamedTuple):
    """Consecutive iterations in which sequences only grew.

    Attributes:
        batch: the first iteration.
        number: how many there are.
        usage: memory usage in the first iteration, if no sequence got slots in it.
        growths: four integers for every iteration in which sequences got slots: its number, free slots,
            internal slots, and the blocks of the prefix cache that have lost their contents so far. In the
            other iterations, sequences fill the slots that they have.
        last_usage: memory usage in the last iteration.
    """

    batch: Batch
    number: int
    usage: MemoryUsage
    growths: list[int]
    last_usage: MemoryUsage


class Repeating(Scheduler):
    """A scheduler that decides nothing while no sequence ends and the head of the queue stays refused."""

    def __init__(self, memory: KVManager, limits: Limits) -> None:
        super().__init__(memory, limits)
        self._growths: Agenda[Sequence] = Agenda()  # sequences for which `append` falls due
        self._widest = 1  # most sequences of any group so far

    # Iterations in one go

    def next_alike(self, latest: Batch) -> tuple[Batch, int] | None:
        """The iteration after `latest`, and the length of the stretch that it begins if no request arrives.

        Nothing is decided in the stretch, which ends with the iteration in which a sequence does. None if
        there is none, for example if one grows that is not alone in its group, since it may copy a block.
        """
        members, count, memory = self.members(), self.counter.count, self.memory
        is_refused = latest.decodes is members and latest.blocked_by in STAYS_REFUSED
        is_quiet = not (self.num_prefilling or latest.num_swapped or latest.preemptions or self._copies)
        is_alone = self._widest == 1 or not self._growths.num_due(count + 1)
        if not (
            members and is_quiet and is_alone and (is_refused or not self.waiting) and memory.grows_alike
        ):
            return None
        batch = Batch(self._step, [], members, self._stored_len + len(members), decode_step=count + 1)
        batch.num_running, batch.num_waiting = len(self.running), len(self.waiting)
        batch.blocked_by = latest.blocked_by if self.waiting else BlockedBy.NOTHING
        batch.prefix_hits, batch.prefix_queried = memory.num_prefix_hits, memory.num_prefix_queried
        batch.evicted_blocks = memory.num_evicted
        return batch, int(self._endings.next_due) - count

    def repeat(self, batch: Batch, times: Items[float]) -> Stretch | None:
        """Run `batch` and iterations like it from each of `times` to the next, while memory suffices.

        Returns None if it does not suffice for any.
        """
        if len(times) == 1 or not self.can_grow_due():
            return None
        memory, width, head_refused = self.memory, batch.num_decode_tokens, batch.blocked_by.is_memory
        memory.advance(width)
        usage = memory.usage(head_refused=head_refused)
        number, growths = self._grow_alike(times)
        memory.start_iteration(times[number - 1])  # in which sequences may end
        memory.advance((number - 1) * width)
        self.counter.count += number
        self._step += number
        self._stored_len += number * width
        last_usage = memory.usage(head_refused=head_refused)
        return Stretch(batch, number, usage, growths, last_usage)

    def _grow_alike(self, times: Items[float]) -> tuple[int, list[int]]:
        """Give room to the sequences that need it in iterations from each of `times` to the next.

        Returns for how many iterations memory suffices, and their `Stretch.growths`.
        """
        memory, agenda, growths = self.memory, self._growths, list[int]()
        spare, first = memory.num_appendable - self._widest, self.counter.count + 1
        for i in range(len(times) - 1):
            if num_due := agenda.num_due(first + i):
                spare -= num_due
                if spare < 0:
                    return i, growths
                due = agenda.postpone(first + i, first + i + memory.append_len)  # or they end before
                growths += (self._step + i, *memory.append_all(due, times[i]))
        return len(times) - 1, growths

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


def _age(sequence: Sequence) -> tuple[int, int]:
    return sequence.group.order, sequence.sequence_id
