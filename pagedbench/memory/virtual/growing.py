"""GrowingExtents: extents of virtual slots that get memory page by page, fork by copies, and are freed."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.manager import KVManager
from pagedbench.memory.moves import Copy
from pagedbench.memory.placement import Extent
from pagedbench.memory.usage import MemoryUsage
from pagedbench.memory.virtual.page_pool import PagePool

if TYPE_CHECKING:
    from pagedbench.memory.pages import PageSpec
    from pagedbench.request import Sequence, SequenceGroup


@dataclass(slots=True)
class Held:
    """The extent of a sequence, and the pages that it needs.

    Attributes:
        num_waste: tokens that the pages hold and the sequence will never have.
        begun_len: tokens of its prompt that have memory; None: all of its tokens have.
        source: the sequence that it was forked from, whose tokens are copied before this one grows; None:
            its own extent holds its tokens.
    """

    extent: int
    num_pages: int = 0
    num_waste: int = 0
    begun_len: int | None = None
    source: Sequence | None = None


class GrowingExtents(KVManager):
    """Gives a sequence pages as it grows, and keeps running totals of what they hold.

    ::

        virtual     [ sequence 0 . . . . . . ][ sequence 1 . . . . . . ][ idle . . . . . . . ]
        with memory  =========                 ====                      ===

    Virtual slots cost nothing, so each extent has room for the longest sequence. Extents share nothing.
    """

    attention: ClassVar[str] = "contiguous"
    commits_pages: ClassVar[bool] = True
    pages: PagePool

    def __init__(self, num_slots: int, step: int, max_model_len: int, spec: PageSpec) -> None:
        """`step`: the slots of an extent are a multiple of this, and fill whole pages."""
        self.num_slots = num_slots
        self._spec = spec
        whole_pages = lcm(spec.page_bytes, spec.row_bytes) // spec.row_bytes
        step = lcm(whole_pages, step)
        self.extent_len = -(-max_model_len // step) * step
        num_pages = num_slots * spec.row_bytes // spec.page_bytes
        self.pages = PagePool(spec, num_pages, self.extent_len * spec.row_bytes // spec.page_bytes)
        self._held: dict[Sequence, Held] = {}
        self._num_tokens = 0
        self._num_room = 0  # whole tokens that the needed pages hold
        self._num_waste = 0  # of them, those that will never come

    def _hold(self, sequence: Sequence, begun_len: int | None = None) -> None:
        """Give the sequence an extent with memory for its tokens, or for the first ones of its prompt."""
        length = sequence.num_tokens if begun_len is None else begun_len
        num_pages = self._spec.num_pages(length)
        self._held[sequence] = held = Held(self.pages.open(num_pages), begun_len=begun_len)
        self._num_tokens += length
        self._resize(sequence, held, num_pages)

    def _grow(self, sequence: Sequence, held: Held, length: int) -> None:
        """Give the sequence memory for `length` tokens."""
        num_pages = self._spec.num_pages(length)
        if num_pages > held.num_pages:
            self.pages.grow(held.extent, num_pages - held.num_pages)
            self._resize(sequence, held, num_pages)

    def _resize(self, sequence: Sequence, held: Held, num_pages: int) -> None:
        """Give the sequence `num_pages` pages, and update the totals."""
        room = self._spec.num_tokens(num_pages)
        waste = max(room - sequence.group.final_len, 0) if num_pages else 0
        self._num_room += room - self._spec.num_tokens(held.num_pages)
        self._num_waste += waste - held.num_waste
        held.num_pages, held.num_waste = num_pages, waste

    def _held_len(self, sequence: Sequence) -> int:
        """Tokens for which the sequence has memory."""
        begun_len = self._held[sequence].begun_len
        return sequence.num_tokens if begun_len is None else begun_len

    def room(self, sequence: Sequence) -> int:
        held = self._held[sequence]
        if held.source is not None:
            return 0
        room = self._spec.num_tokens(held.num_pages) - sequence.num_tokens
        return max(room - self._lookahead(sequence), 0)

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
        self._grow(sequence, held, most)  # a reply's newest token is never stored
        return copies

    def advance(self, num_sequences: int) -> None:
        self._num_tokens += num_sequences

    def fork(self, parent: Sequence, child: Sequence) -> list[Copy]:
        """Let the child's next `append` copy; until then its tokens are where its parent's are.

        So the right tokens move if the group is swapped out in between.
        """
        assert parent.num_tokens == child.num_tokens, "beams have equal lengths"
        self._held[child].source = self._held[parent].source or parent
        return []

    def free(self, sequence: Sequence) -> None:
        self._num_tokens -= self._held_len(sequence)
        held = self._held.pop(sequence)
        self._resize(sequence, held, 0)
        self.pages.close(held.extent)

    def num_reclaimable(self, group: SequenceGroup) -> int:
        return sum(self._spec.num_tokens(self._held[item].num_pages) for item in group.sequences)

    def _start(self, sequence: Sequence) -> int:
        return self._held[sequence].extent * self.extent_len

    def placement(self, sequence: Sequence, layer_group: int = 0) -> Extent:
        return Extent(self._start(sequence), self.extent_len)

    @property
    def num_owned(self) -> int:
        return self._spec.num_tokens(self.pages.num_needed)

    def usage(self, *, head_refused: bool) -> MemoryUsage:
        """Pages that have memory but no owner are free: they are given back when memory is short.

        The ends of pages and of the pool that are too short for a token are rounding.
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
        for sequence, held in self._held.items():
            assert spec.num_pages(self._held_len(sequence)) <= held.num_pages, f"{sequence} lacks memory"
        room = {item: spec.num_tokens(held.num_pages) for item, held in self._held.items()}
        waste = [max(number - item.group.final_len, 0) for item, number in room.items()]
        assert self._num_tokens == sum(map(self._held_len, self._held)), "tokens do not match"
        assert self._num_room == sum(room.values()), "room of the pages does not match"
        assert self._num_waste == sum(waste), "slack behind the last tokens does not match"
