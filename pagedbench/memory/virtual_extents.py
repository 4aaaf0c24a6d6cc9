"""VirtualExtents: an extent of virtual slots for each sequence, with memory behind what it has filled."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.manager import Allocation, KVManager
from pagedbench.memory.moves import Copy, Pool
from pagedbench.memory.page_pool import PagePool
from pagedbench.memory.pages import PageSpec
from pagedbench.memory.placement import Extent
from pagedbench.memory.pool_spec import WATERMARK
from pagedbench.memory.swap import HostTables
from pagedbench.memory.usage import MemoryUsage

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from typing import Self

    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.request import Sequence, SequenceGroup


@dataclass(slots=True)
class Held:
    """The extent of a sequence, and the pages that it needs.

    Attributes:
        num_waste: tokens that the pages hold and the sequence will never have.
        source: the sequence whose tokens are its own since a fork; they are copied before it grows.
    """

    extent: int
    num_pages: int = 0
    num_waste: int = 0
    source: Sequence | None = None


class VirtualExtents(KVManager):
    """Contiguous addresses for the longest sequence, and memory page by page as it grows (vAttention).

    ::

        virtual     [ sequence 0 . . . . . . ][ sequence 1 . . . . . . ][ idle . . . . . . . ]
        with memory  =========                 ====                      ===

    Virtual slots cost nothing, so each extent has room for the longest sequence. Sequences are
    admitted, grow and are preempted by the number of pages, as if these were blocks. Extents share nothing:
    each sequence of a group computes its own prompt, and a fork copies tokens when the child first grows.
    """

    attention: ClassVar[str] = "contiguous"
    swaps: ClassVar[bool] = True
    has_watermark: ClassVar[bool] = True
    commits_pages: ClassVar[bool] = True
    pages: PagePool

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
            block_size: of the host's pool, in tokens.
            pages: how extents get memory; None: a page has room for `block_size` tokens.
            host_slots: tokens in the host pool for swapping, as many as on the device if None.
            watermark: share of the pages that admission leaves free for running sequences to grow.
        """
        self.block_size = block_size
        self.max_model_len = max_model_len
        self.num_slots = num_slots // block_size * block_size
        self._spec = pages or PageSpec(row_bytes=1, page_bytes=block_size)
        self.extent_len = _extent_len(self._spec, block_size, max_model_len)
        row_bytes, page_bytes = self._spec.row_bytes, self._spec.page_bytes
        num_pages = self.num_slots * row_bytes // page_bytes
        self.pages = PagePool(self._spec, num_pages, self.extent_len * row_bytes // page_bytes)
        host_blocks = (self.num_slots if host_slots is None else host_slots) // block_size
        self.host = HostTables(host_blocks)
        self.num_host_slots = host_blocks * block_size
        self.watermark_pages = int(watermark * num_pages)
        self._held: dict[Sequence, Held] = {}
        self._num_tokens = 0
        self._num_room = 0  # whole tokens that the needed pages hold
        self._num_waste = 0  # of them, those that will never come

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
        n, pages = group.num_sequences, self.pages
        worst_case = n * self._spec.num_pages(group.worst_case_len)
        fits_alone = worst_case <= pages.num_pages - self.watermark_pages and n <= pages.max_extents
        if group.max_len > self.max_model_len or not fits_alone:
            return Allocation.NEVER
        is_free = self._fits(group, pages.num_free - self.watermark_pages)
        return Allocation.OK if is_free else Allocation.LATER

    def _fits(self, group: SequenceGroup, num_pages: int) -> bool:
        """Are so many pages, and the extents that are left, enough for all tokens of the group?"""
        needed = sum(self._spec.num_pages(sequence.num_tokens) for sequence in group.sequences)
        return needed <= num_pages and group.num_sequences <= self.pages.num_free_extents

    def can_finish(self, groups: Items[SequenceGroup]) -> bool:
        """While memory is short, a sequence grows only if a page is free, whether it needs one or not."""
        widest = max(group.num_sequences for group in groups)
        needed = [item.num_sequences * self._spec.num_pages(item.worst_case_len) for item in groups]
        return sum(needed) + widest * self._pages_per_append <= self.pages.num_pages

    def allocate(self, group: SequenceGroup) -> list[int]:
        for sequence in group.sequences:
            self._hold(sequence)
        return [0] * group.num_sequences  # nothing is shared: every sequence computes its own prompt

    def _hold(self, sequence: Sequence) -> None:
        """Give the sequence an extent with memory for its tokens."""
        num_pages = self._spec.num_pages(sequence.num_tokens)
        self._held[sequence] = held = Held(self.pages.open(num_pages))
        self._num_tokens += sequence.num_tokens
        self._resize(sequence, held, num_pages)

    def _resize(self, sequence: Sequence, held: Held, num_pages: int) -> None:
        """The sequence needs `num_pages` pages from now on; bring the totals up to date."""
        room = self._spec.num_tokens(num_pages)
        waste = max(room - sequence.group.final_len, 0) if num_pages else 0
        self._num_room += room - self._spec.num_tokens(held.num_pages)
        self._num_waste += waste - held.num_waste
        held.num_pages, held.num_waste = num_pages, waste

    # Growth

    def room(self, sequence: Sequence) -> int:
        held = self._held[sequence]
        if held.source is not None:
            return 0
        room = self._spec.num_tokens(held.num_pages) - sequence.num_tokens
        return max(room - self._lookahead(sequence), 0)

    def _lookahead(self, sequence: Sequence) -> int:
        """Beams get one token a step, all others up to `num_lookahead` more."""
        return self.num_lookahead if sequence.group.request.sampling.beam_width is None else 0

    @property
    def _pages_per_append(self) -> int:
        """The most pages that one call of `append` takes."""
        return self._spec.num_pages(1 + self.num_lookahead)

    @property
    def num_appendable(self) -> int:
        return self.pages.num_free // self._pages_per_append

    def append(self, sequence: Sequence) -> list[Copy]:
        held, copies = self._held[sequence], []
        if held.source is not None:
            copies = [Copy(self._start(held.source), self._start(sequence), sequence.num_tokens)]
            held.source = None
        most = sequence.num_tokens + 1 + self._lookahead(sequence)
        most = max(min(most, sequence.group.final_len - 1), sequence.num_tokens + 1)
        num_pages = self._spec.num_pages(most)  # a reply's newest token is never stored
        if num_pages > held.num_pages:
            self.pages.grow(held.extent, num_pages - held.num_pages)
            self._resize(sequence, held, num_pages)
        return copies

    def advance(self, num_sequences: int) -> None:
        self._num_tokens += num_sequences

    def fork(self, parent: Sequence, child: Sequence) -> list[Copy]:
        """The child's next `append` copies; until then its tokens are where its parent's are.

        So a group that is swapped out in between moves the right tokens.
        """
        assert parent.num_tokens == child.num_tokens, "beams have equal lengths"
        self._held[child].source = self._held[parent].source or parent
        return []

    def free(self, sequence: Sequence) -> None:
        held = self._held.pop(sequence, None)
        if held is None:
            self.host.remove(sequence)
            return
        self._num_tokens -= sequence.num_tokens
        self._resize(sequence, held, 0)
        self.pages.close(held.extent)

    def num_reclaimable(self, group: SequenceGroup) -> int:
        return sum(self._spec.num_tokens(self._held[item].num_pages) for item in group.sequences)

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
        return self._fits(group, num_free)

    def swap_in(self, group: SequenceGroup) -> list[Copy]:
        """Each sequence gets all its tokens, also those that it shares with others on the host."""
        size, moves = self.block_size, list[Copy]()
        for sequence in group.sequences:
            self._hold(sequence)
            start = self._start(sequence)
            for i, entry in enumerate(self.host.entries(sequence)):
                length = min(sequence.num_tokens - i * size, size)
                moves.append(Copy(entry.number * size, start + i * size, length, Pool.HOST, Pool.DEVICE))
            self.host.remove(sequence)
        return moves

    # What others read

    def _start(self, sequence: Sequence) -> int:
        return self._held[sequence].extent * self.extent_len

    def placement(self, sequence: Sequence, layer_group: int = 0) -> Extent:
        return Extent(self._start(sequence), self.extent_len)

    @property
    def num_owned(self) -> int:
        return self._spec.num_tokens(self.pages.num_needed)

    def usage(self, *, head_refused: bool) -> MemoryUsage:
        """Pages that have memory but no owner are free: they are given back when memory is short.

        What is left at the end of pages and of the pool, because rows do not fill them, is rounding.
        """
        free = self._spec.num_tokens(self.pages.num_free)
        return MemoryUsage(
            token_states=self._num_tokens,
            reserved=self._num_room - self._num_tokens - self._num_waste,
            internal=self._num_waste,
            rounding=self.num_slots - self._num_room - free,
            unusable=0,  # any request can use any free page
            free=free,
        )

    def check_integrity(self) -> None:
        spec, needed = self._spec, {held.extent: held.num_pages for held in self._held.values()}
        assert len(needed) == len(self._held), "an extent has two owners"
        self.pages.check_integrity(needed)
        self.host.check_integrity()
        for sequence, held in self._held.items():
            assert spec.num_pages(sequence.num_tokens) <= held.num_pages, f"{sequence} lacks memory"
        room = {item: spec.num_tokens(held.num_pages) for item, held in self._held.items()}
        waste = [max(number - item.group.final_len, 0) for item, number in room.items()]
        assert self._num_tokens == sum(item.num_tokens for item in self._held), "tokens do not match"
        assert self._num_room == sum(room.values()), "room of the pages does not match"
        assert self._num_waste == sum(waste), "slack behind the last tokens does not match"


def _extent_len(pages: PageSpec, block_size: int, max_model_len: int) -> int:
    """Virtual slots of an extent: whole pages and whole blocks of the host, for the longest sequence."""
    whole_pages = lcm(pages.page_bytes, pages.row_bytes) // pages.row_bytes
    step = lcm(whole_pages, block_size)
    return -(-max_model_len // step) * step
