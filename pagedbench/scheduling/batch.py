"""Batch: everything an executor is told about one iteration."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.moves import Copy
    from pagedbench.memory.pages import PageChanges
    from pagedbench.request import Sequence, SequenceGroup


@dataclass(frozen=True, slots=True)
class Prefill:
    """Compute a sequence's positions `start` to `stop` - 1: its prompt, or a chunk of it.

    Attributes:
        sampled: the sequences that get a token from the logits of the last position: the sequence itself
            and those of its group that share the whole prompt. Empty if later chunks follow.
    """

    sequence: Sequence
    start: int
    stop: int
    sampled: tuple[Sequence, ...]

    @property
    def num_tokens(self) -> int:
        return self.stop - self.start


class BlockedBy(IntEnum):
    """Why the head of the queue was not admitted to an iteration."""

    NOTHING = 0  # no request waits
    MEMORY = 1  # too few free slots, or preempted groups come first
    FRAGMENTATION = 2  # the free slots would hold all its tokens, but not in the pieces that it needs
    SEQUENCES = 3  # --max-num-seqs
    TOKENS = 4  # --max-num-batched-tokens
    POLICY = 5  # the batching policy: a running batch admits no request until it ends
    ADMISSION = 6  # the admission policy: memory has room, but the request is not sure to finish
    TRANSFER = 7  # blocks of its prompt are still being read from the disk

    @property
    def is_memory(self) -> bool:
        """Did the memory manager lack room for it?"""
        return self in (BlockedBy.MEMORY, BlockedBy.FRAGMENTATION)


class PreemptionMode(Enum):
    """What happens to the tokens of a preempted group."""

    RECOMPUTE = "recompute"
    SWAP = "swap"


@dataclass(slots=True)
class Preemption:
    """A running group lost its memory so that another could grow.

    Attributes:
        step: the iteration.
        victim: the group that lost its memory.
        cause: the group that needed a slot; the victim itself, if no later group was left.
        blocks_freed: blocks of the device that lost their last owner.
        tokens_lost: tokens that are computed a second time: known once the group is back; until then, the
            number if it came back at once. 0 for a swap.
        tokens_new: tokens that it computes for the first time after its return, before it decodes.
        resumed_step: the iteration in which the group runs again; None: it never did.
    """

    step: int
    victim: SequenceGroup
    cause: SequenceGroup
    mode: PreemptionMode
    blocks_freed: int
    tokens_lost: int
    tokens_new: int = 0
    resumed_step: int | None = None


@dataclass(slots=True)
class Batch:
    """One iteration, which a scheduler fills in step by step.

    It is executed in this order: evictions and swap-outs, pages, swap-ins and promotions, copies (all read
    before any is written), K/V writes. So a shared block that is swapped in can be copied on write in the
    same iteration, and an evicted block can be filled. Nothing else depends on the order: what a copy
    reads is owned, what a swap-in or a promotion fills was free, and no block of a tier is both written
    and read, or reused.

    Attributes:
        step: number of the iteration, from 0.
        prefills: prompts, or chunks of prompts, computed in this iteration.
        decodes: sequences that store their newest token and sample the next. The list belongs to the
            scheduler and is valid during this iteration only. In a request-level batch it keeps the
            sequences that have ended, because the batch computes them until its end.
        num_dead: how many of `decodes` have ended.
        decode_context: tokens that the decodes' attention reads, this iteration's and padding included.
        padded_len: request-level batches pad every prompt, on the left, to this length.
        copies: copies of keys and values that precede the iteration.
        swap_outs: moves from slots of the device to slots of the host.
        swap_ins: moves back.
        evictions: moves of cached blocks from slots of the device to slots of the host tier, or of the
            disk, where they have already begun.
        promotions: moves back.
        pages: pages of virtual extents that get and lose their memory; None: all slots have memory.
        preemptions: groups that lost their memory while this batch was made.
        blocked_by: why the head of the queue was not admitted.
        num_running, num_waiting, num_swapped: numbers of requests after this batch was made.
        prefix_hits, prefix_queried: prompt tokens found in the cache, and looked up, so far.
        evicted_blocks: blocks of the prefix cache that lost their contents so far.
        decode_step: number of this decoding iteration (`DecodeCounter.count`); None if no sequence decodes.
    """

    step: int
    prefills: list[Prefill] = field(default_factory=list)
    decodes: Items[Sequence] = ()
    decode_context: int = 0
    num_running: int = 0
    num_waiting: int = 0
    decode_step: int | None = None
    num_dead: int = 0
    padded_len: int | None = None
    copies: list[Copy] = field(default_factory=list)
    swap_outs: list[Copy] = field(default_factory=list)
    swap_ins: list[Copy] = field(default_factory=list)
    preemptions: list[Preemption] = field(default_factory=list)
    num_swapped: int = 0
    prefix_hits: int = 0
    prefix_queried: int = 0
    evicted_blocks: int = 0
    blocked_by: BlockedBy = BlockedBy.NOTHING
    evictions: Items[Copy] = ()
    promotions: Items[Copy] = ()
    pages: PageChanges | None = None

    def __bool__(self) -> bool:
        return bool(self.prefills or self.decodes)

    @property
    def moves_out(self) -> Items[Copy]:
        """Everything that moves from the device to the host."""
        return [*self.evictions, *self.swap_outs] if self.evictions else self.swap_outs

    @property
    def moves_in(self) -> Items[Copy]:
        """Everything that moves from the host to the device."""
        return [*self.swap_ins, *self.promotions] if self.promotions else self.swap_ins

    def preempted(self, mode: PreemptionMode) -> list[SequenceGroup]:
        """The groups that were preempted in this mode."""
        return [item.victim for item in self.preemptions if item.mode is mode]

    @property
    def num_tokens(self) -> int:
        """Tokens that it computes, padding not counted."""
        return len(self.decodes) + self.num_prefill_tokens

    @property
    def num_prefill_tokens(self) -> int:
        """Prompt tokens, padding not counted."""
        return sum(prefill.num_tokens for prefill in self.prefills) if self.prefills else 0

    @property
    def num_computed_prefill_tokens(self) -> int:
        """Prompt tokens that are really computed, padding counted."""
        if self.padded_len is None:
            return self.num_prefill_tokens
        return self.padded_len * len(self.prefills)

    @property
    def num_decode_tokens(self) -> int:
        """Decoding sequences that have not ended."""
        return len(self.decodes) - self.num_dead
