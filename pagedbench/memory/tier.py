"""Tier: numbered blocks outside the device, found by the key of their content, replaced by LRU."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.memory.prefix import Key


class Tier:
    """`num_blocks` blocks of one pool, reused in the order in which their content was last needed.

    Two kinds of content are not replaced: what a move of this iteration reads or writes (touched), since
    moves of one iteration must not depend on their order; and what is being read from the disk, or waits
    for the request that it was read for (held).
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))
        self._block_of: dict[Key, int] = {}
        self._replaceable: OrderedDict[Key, None] = OrderedDict()  # least recently needed first
        self._touched: dict[Key, None] = {}
        self._held: dict[Key, None] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._block_of

    def need(self, key: Key) -> int:
        """The block with this content, which becomes the most recently needed."""
        if key in self._replaceable:
            self._replaceable.move_to_end(key)
        return self._block_of[key]

    def touch(self, key: Key) -> int:
        """The block with this content, which stays until `end_iteration`."""
        self._replaceable.pop(key, None)
        self._touched[key] = None
        return self._block_of[key]

    def hold(self, key: Key) -> int:
        """The block with this content, which stays until `release`."""
        self._replaceable.pop(key, None)
        self._held[key] = None
        return self._block_of[key]

    def end_iteration(self) -> None:
        """The moves of this iteration are decided; what they touched may be replaced in the next."""
        touched, self._touched = self._touched, {}
        self._replaceable.update((key, None) for key in touched if key not in self._held)

    def release(self) -> None:
        """What is held may be replaced from now on."""
        held, self._held = self._held, {}
        self._replaceable.update((key, None) for key in held if key not in self._touched)

    def take(self) -> tuple[int, Key | None] | None:
        """A block to be filled, and the content that it has lost, if any; None: none is available now."""
        if self._free:
            return self._free.pop(), None
        if not self._replaceable:
            return None
        key, _ = self._replaceable.popitem(last=False)
        return self._block_of.pop(key), key

    def put(self, key: Key, block: int) -> None:
        """Note that a block that was taken holds this content, which no other block holds."""
        assert key not in self._block_of, "two blocks of a tier hold the same"
        self._block_of[key] = block
        self._replaceable[key] = None

    def give_back(self, block: int) -> None:
        """Give back, empty, a block that was taken."""
        self._free.append(block)

    def drop(self, key: Key) -> None:
        """Forget this content."""
        for place in (self._replaceable, self._touched, self._held):
            place.pop(key, None)
        self._free.append(self._block_of.pop(key))

    def check_integrity(self, taken: Iterable[int]) -> None:
        """`taken`: blocks that were taken and not put or given back."""
        blocks = [*self._free, *self._block_of.values(), *taken]
        assert sorted(blocks) == list(range(self.num_blocks)), (
            "a block of a tier was lost, or is there twice"
        )
        kept = {*self._touched, *self._held}
        assert kept.isdisjoint(self._replaceable), "what is in use may be replaced"
        assert {*self._replaceable, *kept} == {*self._block_of}, "a content of a tier was lost"
