"""Draft: an iteration in the making."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pagedbench.scheduling.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.moves import Copy
    from pagedbench.request import Sequence
    from pagedbench.scheduling.batch import BlockedBy, Preemption, Prefill


@dataclass(slots=True)
class Draft:
    """The parts of a batch that are collected step by step (see `Batch`)."""

    prefills: list[Prefill] = field(default_factory=list)
    decodes: Items[Sequence] = ()
    decode_context: int = 0
    decode_step: int | None = None
    copies: list[Copy] = field(default_factory=list)
    swap_outs: list[Copy] = field(default_factory=list)
    swap_ins: list[Copy] = field(default_factory=list)
    preemptions: list[Preemption] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Tokens that the iteration computes so far."""
        return len(self.decodes) + sum(prefill.num_tokens for prefill in self.prefills)

    def batch(
        self,
        step: int,
        num_running: int,
        num_waiting: int,
        num_swapped: int,
        forked: list[Copy],
        blocked_by: BlockedBy,
    ) -> Batch:
        """The finished batch. `forked`: copies caused by forks in the previous iteration."""
        return Batch(
            step,
            self.prefills,
            self.decodes,
            self.decode_context,
            num_running,
            num_waiting,
            self.decode_step,
            copies=forked + self.copies,
            swap_outs=self.swap_outs,
            swap_ins=self.swap_ins,
            preemptions=self.preemptions,
            num_swapped=num_swapped,
            blocked_by=blocked_by,
        )
