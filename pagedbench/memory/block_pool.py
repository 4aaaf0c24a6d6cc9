"""BlockPool: a free list, reference counts, and idle blocks whose content may be found again."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class BlockPool:
    """`num_blocks` interchangeable blocks; the block freed last is handed out first.

    A block may have several owners. When the last one releases it, it returns to the free list or, if its
    content is kept, becomes idle. Idle blocks count as free, but are evicted only when the free list is
    empty, least recently used first.

    ::

        take ──► owned (1, 2, ... owners) ──release──► free list
                   ▲                        kept?
                   └────────share──── idle ◄───┘   evicted when the free list is empty
    """

    def __init__(self, num_blocks: int, evicted: Callable[[int], None] | None = None) -> None:
        """`evicted` is called with the idle block that lost its content."""
        self.num_blocks = num_blocks
        self.num_free = num_blocks  # blocks without an owner, idle ones included
        self._free = list(range(num_blocks - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._kept: set[int] = set()
        self._owners = [0] * num_blocks
        self._evicted = evicted

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_free

    def take(self) -> int:
        """Give a free block its first owner."""
        block = self._free.pop() if self._free else self._evict()
        self._owners[block] = 1
        self.num_free -= 1
        return block

    def _evict(self) -> int:
        block, _ = self._idle.popitem(last=False)
        self._kept.discard(block)
        if self._evicted is not None:
            self._evicted(block)
        return block

    def keep(self, block: int) -> None:
        """Make the content of an owned block available after its last owner has released it."""
        assert self._owners[block] > 0, f"block {block} is free and has no content to keep"
        self._kept.add(block)

    def share(self, block: int) -> bool:
        """Add an owner to a block that is owned or idle. Returns whether it was idle."""
        was_idle = block in self._idle
        assert was_idle or self._owners[block] > 0, f"block {block} is free and cannot be shared"
        if was_idle:
            del self._idle[block]
            self.num_free -= 1
        self._owners[block] += 1
        return was_idle

    def release(self, block: int) -> bool:
        """Remove an owner. Returns whether it was the last."""
        assert self._owners[block] > 0, f"block {block} is freed twice"
        self._owners[block] -= 1
        if self._owners[block]:
            return False
        self.num_free += 1
        if block in self._kept:
            self._idle[block] = None
        else:
            self._free.append(block)
        return True

    def num_owners(self, block: int) -> int:
        return self._owners[block]

    def is_idle(self, block: int) -> bool:
        return block in self._idle

    def check_integrity(self, owners: dict[int, int]) -> None:
        """Compare with the reference counts that the block tables give."""
        unowned = [*self._free, *self._idle]
        assert len(set(unowned)) == len(unowned), "a block is free twice"
        assert len(unowned) == self.num_free, "the number of free blocks does not match"
        for block, count in enumerate(self._owners):
            holders = owners.get(block, 0)
            assert count == holders, f"block {block}: {count} owners, {holders} holders"
        assert all(self._owners[block] == 0 for block in unowned), "an owned block is free"
        assert len(unowned) == self._owners.count(0), "a block was lost"
        assert set(self._idle) <= self._kept, "a block is idle, but its content is not kept"
