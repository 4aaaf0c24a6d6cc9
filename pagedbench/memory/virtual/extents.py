"""VirtualExtents: admission, preemption and return by the number of pages behind contiguous addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.manager import Allocation
from pagedbench.memory.moves import Copy, Pool
from pagedbench.memory.pages import PageSpec
from pagedbench.memory.pool_spec import WATERMARK
from pagedbench.memory.swap import HostTables
from pagedbench.memory.virtual.growing import GrowingExtents

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from typing import Self

    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.request import Sequence, SequenceGroup


class VirtualExtents(GrowingExtents):
    """Contiguous addresses for the longest sequence, and memory page by page as it grows (vAttention).

    Groups are admitted, grow and are preempted by the number of pages, as if these were blocks. Nothing is
    shared: each sequence of a group computes its own prompt, and a fork copies tokens when the child grows.
    """

    swaps: ClassVar[bool] = True
    has_watermark: ClassVar[bool] = True
    takes_chunks: ClassVar[bool] = True

    def __init__(
        self,
        num_slots: int,
        block_size: int,
        max_model_len: int,
        *,
        pages: PageSpec | None = None,
        host_slots: int | None = None,
        watermark: float = WATERMARK,
    ) -> None:
        """Make an empty manager.

        Args:
            block_size: tokens per block of the host pool.
            pages: how extents get memory; None: a page has room for `block_size` tokens.
            host_slots: tokens in the host pool for swapping, as many as on the device if None.
            watermark: share of the pages that admission leaves free for running sequences to grow.
        """
        spec = pages or PageSpec(row_bytes=1, page_bytes=block_size)
        super().__init__(num_slots // block_size * block_size, block_size, max_model_len, spec)
        self.block_size = block_size
        self.max_model_len = max_model_len
        host_blocks = (self.num_slots if host_slots is None else host_slots) // block_size
        self.host = HostTables(host_blocks)
        self.num_host_slots = host_blocks * block_size
        self.watermark_pages = int(watermark * self.pages.num_pages)

    @classmethod
    def build(cls, pool: PoolSpec) -> Self:
        return cls(
            pool.num_slots,
            pool.block_size,
            pool.max_model_len,
            pages=pool.pages,
            host_slots=pool.host_slots,
            watermark=pool.watermark,
        )

    # Admission

    def can_allocate(self, group: SequenceGroup) -> Allocation:
        return self._can_take(group, self._num_needed(group))

    def can_begin(self, group: SequenceGroup, num_tokens: int) -> Allocation:
        if group.num_sequences > 1:
            return self.can_allocate(group)
        stop = min(num_tokens, group.sequences[0].num_tokens)
        return self._can_take(group, self._spec.num_pages(stop))

    def _num_needed(self, group: SequenceGroup) -> int:
        return sum(self._spec.num_pages(sequence.num_tokens) for sequence in group.sequences)

    def _can_take(self, group: SequenceGroup, num_pages: int) -> Allocation:
        n, pages = group.num_sequences, self.pages
        worst_case = n * self._spec.num_pages(group.worst_case_len)
        fits_alone = worst_case <= pages.num_pages - self.watermark_pages and n <= pages.max_extents
        if group.max_len > self.max_model_len or not fits_alone:
            return Allocation.NEVER
        is_free = num_pages <= pages.num_free - self.watermark_pages and n <= pages.num_free_extents
        return Allocation.OK if is_free else Allocation.LATER

    def can_finish(self, groups: Items[SequenceGroup]) -> bool:
        """While memory is short, a sequence grows only if a page is free, whether it needs it or not."""
        widest = max(group.num_sequences for group in groups)
        needed = [item.num_sequences * self._spec.num_pages(item.worst_case_len) for item in groups]
        return sum(needed) + widest * self._pages_per_append <= self.pages.num_pages

    def allocate(self, group: SequenceGroup) -> list[int]:
        for sequence in group.sequences:
            self._hold(sequence)
        return [0] * group.num_sequences  # nothing is shared: every sequence computes its own prompt

    def begin(self, group: SequenceGroup, num_tokens: int) -> list[int]:
        first = group.sequences[0]
        if group.num_sequences > 1 or num_tokens >= first.num_tokens:
            return self.allocate(group)
        self._hold(first, begun_len=num_tokens)
        return [0]

    def _end_of_chunk(self, sequence: Sequence, num_tokens: int) -> int:
        """The position up to which there is memory after the next chunk of `num_tokens` tokens."""
        return min(self._held_len(sequence) + num_tokens, sequence.num_tokens)

    def can_continue(self, group: SequenceGroup, num_tokens: int) -> bool:
        sequence = group.sequences[0]
        num_pages = self._spec.num_pages(self._end_of_chunk(sequence, num_tokens))
        return num_pages - self._held[sequence].num_pages <= self.pages.num_free

    def continue_prompt(self, group: SequenceGroup, num_tokens: int) -> None:
        sequence = group.sequences[0]
        held, stop = self._held[sequence], self._end_of_chunk(sequence, num_tokens)
        self._num_tokens += stop - self._held_len(sequence)
        held.begun_len = stop if stop < sequence.num_tokens else None
        self._grow(sequence, held, stop)

    # Swapping

    def _host_blocks(self, sequence: Sequence) -> list[int]:
        """The blocks of virtual slots that hold the sequence's tokens, to be moved one by one."""
        first = self._start(self._held[sequence].source or sequence) // self.block_size
        return [first + i for i in range(-(-sequence.num_tokens // self.block_size))]

    def can_swap_out(self, group: SequenceGroup) -> bool:
        blocks = {block for sequence in group.sequences for block in self._host_blocks(sequence)}
        return len(blocks) <= self.host.pool.num_free

    def swap_out(self, group: SequenceGroup) -> list[Copy]:
        size, moved, moves = self.block_size, dict[int, int](), list[Copy]()
        for sequence in group.sequences:
            blocks = self._host_blocks(sequence)
            for block in self.host.add(sequence, blocks, moved, set()):
                length = min(sequence.num_tokens - (block - blocks[0]) * size, size)
                moves.append(Copy(block * size, moved[block] * size, length, Pool.DEVICE, Pool.HOST))
        for sequence in group.sequences:
            self.free(sequence)
        return moves

    def can_swap_in(self, group: SequenceGroup) -> bool:
        num_free = self.pages.num_free
        if self._held:
            num_free -= group.num_sequences * self._pages_per_append + self.watermark_pages
        has_extents = group.num_sequences <= self.pages.num_free_extents
        return has_extents and self._num_needed(group) <= num_free

    def swap_in(self, group: SequenceGroup) -> list[Copy]:
        """Each sequence gets its own copy of all its tokens, even of those that are shared on the host."""
        size, moves = self.block_size, list[Copy]()
        for sequence in group.sequences:
            self._hold(sequence)
            start = self._start(sequence)
            for i, entry in enumerate(self.host.entries(sequence)):
                length = min(sequence.num_tokens - i * size, size)
                moves.append(Copy(entry.number * size, start + i * size, length, Pool.HOST, Pool.DEVICE))
            self.host.remove(sequence)
        return moves

    def free(self, sequence: Sequence) -> None:
        if sequence in self._held:
            super().free(sequence)
        else:
            self.host.remove(sequence)

    def check_integrity(self) -> None:
        super().check_integrity()
        self.host.check_integrity()
