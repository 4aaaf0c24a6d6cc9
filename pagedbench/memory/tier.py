"""Tier: numbered blocks outside the device, found by the key of their content, the least recent first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.memory.prefix import Key


class Tier:
    """`num_blocks` blocks of one pool. Blocks are reused in the order in which they were last needed.

    Attributes:
        touched: blocks that a move of this iteration reads or writes. They keep their content until the
            next one, because no move of an iteration may depend on the order of the others.
        held: blocks that are being read from or into, or wait for the request they were fetched for.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.touched: set[int] = set()
        self.held: set[int] = set()
        self._free = list(range(num_blocks - 1, -1, -1))
        self._block_of: OrderedDict[Key, int] = OrderedDict()  # least recently needed first

    def __contains__(self, key: Key) -> bool:
        return key in self._block_of

    def __len__(self) -> int:
        return len(self._block_of)

    def need(self, key: Key) -> int:
        """The block with this content, which is the most recently needed from now on."""
        self._block_of.move_to_end(key)
        return self._block_of[key]

    def take(self) -> tuple[int, Key | None] | None:
        """A block to be filled, and the content it has lost, if any; None if none can be had now."""
        if self._free:
            return self._free.pop(), None
        for key, block in self._block_of.items():
            if block not in self.touched and block not in self.held:
                del self._block_of[key]
                return block, key
        return None

    def put(self, key: Key, block: int) -> None:
        """A block that was taken holds this content, which no other block holds."""
        assert key not in self._block_of, "two blocks of a tier hold the same"
        self._block_of[key] = block

    def give_back(self, block: int) -> None:
        """A block that was taken holds nothing."""
        self._free.append(block)

    def drop(self, key: Key) -> None:
        """Forget this content."""
        self._free.append(self._block_of.pop(key))

    def check_integrity(self, taken: Iterable[int]) -> None:
        """`taken`: blocks that were taken and not put or given back."""
        blocks = [*self._free, *self._block_of.values(), *taken]
        assert sorted(blocks) == list(range(self.num_blocks)), (
            "a block of a tier was lost, or is there twice"
        )
