"""BlockPool: a free list, reference counts, and idle blocks whose content may be found again."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Sequence as Items


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

    def __init__(self, num_blocks: int, evicted: Callable[[list[int]], None] | None = None) -> None:
        """`evicted` is called with the idle blocks that lost their content."""
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
        block = self._free.pop() if self._free else self._evict(1)[0]
        self._owners[block] = 1
        self.num_free -= 1
        return block

    def take_all(self, number: int) -> list[int]:
        """As many calls of `take`."""
        split = max(len(self._free) - number, 0)
        blocks = self._free[split:][::-1]
        del self._free[split:]
        if len(blocks) < number:
            blocks += self._evict(number - len(blocks))
        for block in blocks:
            self._owners[block] = 1
        self.num_free -= number
        return blocks

    def _evict(self, number: int) -> list[int]:
        blocks = [self._idle.popitem(last=False)[0] for _ in range(number)]
        self._kept.difference_update(blocks)
        if self._evicted is not None:
            self._evicted(blocks)
        return blocks

    def keep(self, blocks: Iterable[int]) -> None:
        """Make the contents of owned blocks available after their last owners have released them."""
        blocks = list(blocks)
        assert all(map(self._owners.__getitem__, blocks)), "a block is free and has no content to keep"
        self._kept.update(blocks)

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
        return self.release_all((block,)) == 1

    def release_all(self, blocks: Iterable[int]) -> int:
        """Remove an owner from each block, in order. Returns how many have lost their last one."""
        owners, kept, idle, free = self._owners, self._kept, self._idle, self._free
        num_before = self.num_free
        for block in blocks:
            number = owners[block] - 1
            assert number >= 0, f"block {block} is freed twice"
            owners[block] = number
            if not number:
                self.num_free += 1
                if block in kept:
                    idle[block] = None
                else:
                    free.append(block)
        return self.num_free - num_before

    def num_owners(self, block: int) -> int:
        return self._owners[block]

    def num_idle(self, blocks: Items[int]) -> int:
        """How many of these blocks are idle."""
        return sum(map(self._idle.__contains__, blocks))

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
