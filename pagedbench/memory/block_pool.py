"""BlockPool: a free list, reference counts, and idle blocks whose content may be found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.memory.cache_times import CacheTimes
from pagedbench.memory.eviction import CachedBlock, EvictionPolicy, Lru

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Sequence as Items


class BlockPool:
    """`num_blocks` interchangeable blocks; the block freed last is handed out first.

    A block may have several owners. When the last one releases it, it returns to the free list or, if its
    content is kept, becomes idle. Idle blocks count as free, but are evicted only when the free list is
    empty; the policy says which.

    ::

        take ──► owned (1, 2, ... owners) ──release──► free list
                   ▲                        kept?
                   └────────share──── idle ◄───┘   evicted when the free list is empty
    """

    def __init__(
        self,
        num_blocks: int,
        evicted: Callable[[list[int]], None] | None = None,
        policy: EvictionPolicy | None = None,
    ) -> None:
        """Make a pool whose blocks are free.

        Args:
            evicted: called with the idle blocks that lost their content.
            policy: chooses which idle blocks to evict; LRU by default.
        """
        self.num_blocks = num_blocks
        self.num_free = num_blocks  # blocks without an owner, idle ones included
        self.num_evicted = 0  # contents lost so far
        self.now = 0.0  # seconds of the run's clock, set from outside
        self.times = CacheTimes()
        self.policy = policy or Lru()
        self._free = list(range(num_blocks - 1, -1, -1))
        self._kept: dict[int, CachedBlock] = {}
        self._num_kept = 0  # contents kept so far
        self._owners = [0] * num_blocks
        self._evicted = evicted

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_free

    @property
    def num_kept(self) -> int:
        """Blocks whose contents are kept, owned or idle."""
        return len(self._kept)

    def take(self) -> int:
        """Give a free block its first owner."""
        block = self._free.pop() if self._free else self._evict(1)[0]
        self._owners[block] = 1
        self.num_free -= 1
        return block

    def take_all(self, number: int) -> list[int]:
        """Take `number` blocks, as by that many calls of `take`."""
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
        chosen = self.policy.evict(number)
        if len(chosen) != number:
            name = type(self.policy).__name__
            raise RuntimeError(f"{name}.evict returned {len(chosen)} blocks instead of {number}")
        return self._lose(chosen)

    def _lose(self, idle: list[CachedBlock]) -> list[int]:
        """Drop the contents of these idle blocks. Returns the numbers of the blocks."""
        blocks = [block.number for block in idle]
        if any(map(self._owners.__getitem__, blocks)):
            raise RuntimeError(f"{type(self.policy).__name__} chose a block that is not idle")
        kept, now = self._kept, self.now
        for number in blocks:
            del kept[number]
        self.times.lifetimes.add([now - block.computed for block in idle])
        self.times.idle_times.add([now - block.idle_since for block in idle])
        self.num_evicted += len(blocks)
        if self._evicted is not None:
            self._evicted(blocks)
        return blocks

    def evict(self, number: int) -> None:
        """Drop the contents of `number` idle blocks, which the policy chooses."""
        self._free += self._evict(number)

    @property
    def expires(self) -> bool:
        """Does the policy ever drop contents although no block is needed?"""
        return type(self.policy).expired is not EvictionPolicy.expired

    def expire(self) -> None:
        """Drop the contents that the policy no longer keeps, although no block is needed."""
        if expired := self.policy.expired(self.now):
            self._free += self._lose(expired)

    def keep(self, blocks: Iterable[CachedBlock]) -> None:
        """Keep the contents of owned blocks after their last owners have released them."""
        owners, kept, now, number = self._owners, self._kept, self.now, self._num_kept
        for block in blocks:
            assert owners[block.number], "a block is free and has no content to keep"
            block.order = number
            block.computed = block.last_used = now
            number += 1
            kept.setdefault(block.number, block)
        self._num_kept = number

    def share(self, block: int) -> bool:
        """Add an owner to a block that is owned or idle. Returns whether it was idle."""
        was_idle = not self._owners[block]
        if was_idle:
            assert block in self._kept, f"block {block} is free and cannot be shared"
            self.policy.remove((self._kept[block],))
            self.num_free -= 1
        self._owners[block] += 1
        return was_idle

    def reuse(self, blocks: Items[int]) -> int:
        """Add an owner to each of these blocks, whose contents were found. Returns how many were idle."""
        kept, owners, now = self._kept, self._owners, self.now
        found = [kept[block] for block in blocks if block in kept]  # not pinned
        self.times.gaps.add([now - block.last_used for block in found])
        for block in found:
            block.num_uses += 1
            block.last_used = now
        if idle := [block for block in found if not owners[block.number]]:
            self.policy.remove(idle)
            self.num_free -= len(idle)
        for number in blocks:
            owners[number] += 1
        return len(idle)

    def release(self, block: int) -> bool:
        """Remove an owner. Returns whether it was the last."""
        return self.release_all((block,)) == 1

    def release_all(self, blocks: Iterable[int]) -> int:
        """Remove an owner from each block, in order. Returns how many have lost their last one."""
        owners, kept, free = self._owners, self._kept, self._free
        num_before, now = len(free), self.now
        idle: list[CachedBlock] = []
        for block in blocks:
            number = owners[block] - 1
            assert number >= 0, f"block {block} is freed twice"
            owners[block] = number
            if not number:
                cached = kept.get(block)
                if cached is None:
                    free.append(block)
                else:
                    cached.idle_since = now
                    idle.append(cached)
        if idle:
            self.policy.add(idle)
        num_last = len(free) - num_before + len(idle)
        self.num_free += num_last
        return num_last

    def num_owners(self, block: int) -> int:
        return self._owners[block]

    def num_idle(self, blocks: Items[int]) -> int:
        """How many of these blocks, which are owned or idle, are idle."""
        return list(map(self._owners.__getitem__, blocks)).count(0)

    def check_integrity(self, owners: dict[int, int]) -> None:
        """Compare with the reference counts that the block tables give."""
        idle = [block for block in self._kept if not self._owners[block]]
        unowned = [*self._free, *idle]
        assert len(set(unowned)) == len(unowned), "a block is free twice"
        assert len(unowned) == self.num_free, "the number of free blocks does not match"
        for block, count in enumerate(self._owners):
            holders = owners.get(block, 0)
            assert count == holders, f"block {block}: {count} owners, {holders} holders"
        assert all(self._owners[block] == 0 for block in unowned), "an owned block is free"
        assert len(unowned) == self._owners.count(0), "a block was lost"
        assert all(block.number == number for number, block in self._kept.items()), "contents are mixed up"
