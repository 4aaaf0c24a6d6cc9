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
        *,
        requests: tuple[int, int, int],
        forked: list[Copy],
        cache: tuple[int, int, int],
        tier_moves: tuple[list[Copy], list[Copy]],
        blocked_by: BlockedBy,
    ) -> Batch:
        """The iteration.

        Args:
            requests: how many run, wait, and are swapped.
            forked: copies that forks of the iteration before have caused.
            cache: prompt tokens found in the cache of prefixes, those looked up, and blocks evicted.
            tier_moves: from the device to a tier, and from a tier to the device.
        """
        return Batch(
            step=step,
            prefills=self.prefills,
            decodes=self.decodes,
            decode_context=self.decode_context,
            num_running=requests[0],
            num_waiting=requests[1],
            num_swapped=requests[2],
            decode_step=self.decode_step,
            copies=forked + self.copies,
            swap_outs=self.swap_outs,
            swap_ins=self.swap_ins,
            preemptions=self.preemptions,
            prefix_hits=cache[0],
            prefix_queried=cache[1],
            evicted_blocks=cache[2],
            evictions=tier_moves[0],
            promotions=tier_moves[1],
            blocked_by=blocked_by,
        )
