"""Draft: an iteration in the making."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.manager import Copy
    from pagedbench.request import Sequence
    from pagedbench.scheduling.batch import Preemption, Prefill


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
