"""Small mistakes in memory and scheduling, each as somebody might really make it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagedbench.memory.block_pool import BlockPool
from pagedbench.memory.buddy import Buddy
from pagedbench.memory.extents import ExtentManager
from pagedbench.memory.paged import Paged
from pagedbench.memory.tables import BlockTableManager
from pagedbench.scheduling.victims import Latest

if TYPE_CHECKING:
    import pytest


def leak_a_block_once(patch: pytest.MonkeyPatch) -> None:
    """The first sequence that leaves keeps its last block."""
    free, leaked = BlockTableManager.free, []

    def leaky(self: BlockTableManager, sequence: Any) -> None:
        if not leaked:
            leaked.append(self.pool.share(self._tables[sequence][-1]))
        free(self, sequence)

    patch.setattr(BlockTableManager, "free", leaky)


def leak_a_block_each_time(patch: pytest.MonkeyPatch) -> None:
    """Every sequence that leaves keeps its last block."""
    free = BlockTableManager.free

    def leaky(self: BlockTableManager, sequence: Any) -> None:
        self.pool.share(self._tables[sequence][-1])
        free(self, sequence)

    patch.setattr(BlockTableManager, "free", leaky)


def lose_a_free_block(patch: pytest.MonkeyPatch) -> None:
    """A block is counted as free, but is not in the free list."""
    release, lost = BlockPool.release, []

    def forgetful(self: BlockPool, block: int) -> bool:
        is_last = release(self, block)
        if is_last and not lost:
            lost.append(self._free.pop())
        return is_last

    patch.setattr(BlockPool, "release", forgetful)


def leak_an_extent(patch: pytest.MonkeyPatch) -> None:
    """The first extent that is let go of stays taken in the buddy allocator."""
    free, leaked = Buddy.free, []

    def leaky(self: Buddy, address: int) -> None:
        if leaked:
            free(self, address)
        leaked.append(address)

    patch.setattr(Buddy, "free", leaky)


def lower_the_watermark(patch: pytest.MonkeyPatch) -> None:
    """One block less is left free by admission."""
    start = Paged.__init__

    def careless(self: Paged, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options)
        self.watermark_blocks -= 1

    patch.setattr(Paged, "__init__", careless)


def preempt_the_oldest(patch: pytest.MonkeyPatch) -> None:
    """The victim is the first of those that wait for their turn, not the last."""
    patch.setattr(Latest, "choose", lambda self, candidates, memory: candidates[0])


def keep_the_high_half(patch: pytest.MonkeyPatch) -> None:
    """A chunk that is split gives away its upper half."""

    def allocate(self: Buddy, size: int) -> int:
        chunk = size
        while not self._free.get(chunk):
            chunk *= 2
        address = self._free[chunk].pop()
        while chunk > size:
            chunk //= 2
            self._free[chunk].append(address)
            address += chunk
        self._taken[address] = size
        self.num_free -= size
        return address

    patch.setattr(Buddy, "allocate", allocate)


def count_a_token_twice(patch: pytest.MonkeyPatch) -> None:
    """The figures of memory move, but no decision."""
    usage = ExtentManager.usage

    def wrong(self: ExtentManager, *, head_refused: bool) -> Any:
        parts = usage(self, head_refused=head_refused)
        moved = min(parts.reserved, 1)
        return parts._replace(token_states=parts.token_states + moved, reserved=parts.reserved - moved)

    patch.setattr(ExtentManager, "usage", wrong)
