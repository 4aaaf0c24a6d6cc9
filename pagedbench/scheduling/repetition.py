"""Repeating: iterations of which it is known beforehand that nothing is decided in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.scheduling.agenda import Agenda
from pagedbench.scheduling.scheduler import Limits, Scheduler

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager
    from pagedbench.memory.usage import MemoryUsage
    from pagedbench.request import Sequence
    from pagedbench.scheduling.batch import Batch


class Repeating(Scheduler):
    """A scheduler that decides nothing while nobody waits, and no sequence ends or needs room."""

    def __init__(self, memory: KVManager, limits: Limits) -> None:
        super().__init__(memory, limits)
        self._growths: Agenda[Sequence] = Agenda()  # sequences for which `append` falls due

    def num_alike(self, batch: Batch) -> int:
        """How many iterations after `batch` are like it but for the lengths, if nobody arrives."""
        is_plain = batch.decodes is self._members and not (
            batch.prefills or batch.preemptions or batch.swap_ins or batch.copies or batch.evicted_blocks
        )
        is_quiet = not (batch.num_waiting or self.waiting or batch.num_swapped or self.num_prefilling)
        if not (is_plain and is_quiet and self.memory.grows_alike) or self._copies:
            return 0
        next_due = min(self._endings.next_due, self._growths.next_due)
        return max(int(next_due) - 1 - self.counter.count, 0)

    def repeat(self, number: int) -> tuple[MemoryUsage, MemoryUsage]:
        """So many iterations like the last one have run; the counter has counted them.

        Returns the use of memory after the first of them and after the last.
        """
        self._step += number
        self._stored_len += number * self.num_sequences
        self.memory.advance(self.num_sequences)
        first = self.memory.usage(head_refused=False)
        self.memory.advance((number - 1) * self.num_sequences)
        return first, self.memory.usage(head_refused=False)
