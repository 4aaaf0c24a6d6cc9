"""Fixed-size blocks: a free list and reference counts."""

from __future__ import annotations


class BlockPool:
    """`num_blocks` interchangeable blocks; the block freed last is handed out first.

    A block may have several owners; it returns to the free list when the last one lets go.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))
        self._owners = [0] * num_blocks

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_used(self) -> int:
        return self.num_blocks - len(self._free)

    def take(self) -> int:
        """A free block, now with one owner."""
        block = self._free.pop()
        self._owners[block] = 1
        return block

    def share(self, block: int) -> None:
        """One more owner for a block that has some."""
        assert self._owners[block] > 0, f"block {block} is free and cannot be shared"
        self._owners[block] += 1

    def release(self, block: int) -> bool:
        """One owner less. Returns whether it was the last, and the block is free again."""
        assert self._owners[block] > 0, f"block {block} is freed twice"
        self._owners[block] -= 1
        if self._owners[block]:
            return False
        self._free.append(block)
        return True

    def num_owners(self, block: int) -> int:
        return self._owners[block]

    def check_integrity(self, owners: dict[int, int]) -> None:
        """Compare with the reference counts that the block tables give."""
        assert len(set(self._free)) == len(self._free), "a block is in the free list twice"
        for block, count in enumerate(self._owners):
            assert count == owners.get(block, 0), (
                f"block {block}: {count} owners, {owners.get(block, 0)} holders"
            )
        assert all(self._owners[block] == 0 for block in self._free), "an owned block is in the free list"
        assert len(self._free) == self._owners.count(0), "a block was lost"
