"""Where a sequence's tokens lie in one layer group: a table of blocks, or an extent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class BlockTable:
    """A sequence's blocks in one layer group, in order of position.

    Without a window, token i lies in block i // block_size. With one, blocks between the sinks and the
    window have been freed, and the table has no entries for them::

        block_size 4, sinks 2, 22 tokens, window 6      num_sink_blocks 1, first_position 16
        blocks       7          3           9
        positions  0 .. 3   16 .. 19   20 .. 21

    Attributes:
        first_position: first position of the first block after those of the sinks that is still there.
        num_sink_blocks: blocks at the beginning of the sequence that are never freed.
    """

    blocks: list[int]
    block_size: int
    first_position: int = 0
    num_sink_blocks: int = 0

    def slots(self, start: int, stop: int) -> list[int]:
        """The slots of positions start to stop - 1, which are all still there."""
        return [self._slot(position) for position in range(start, stop)]

    def _slot(self, position: int) -> int:
        number, offset = divmod(position, self.block_size)
        if number >= self.num_sink_blocks:
            number -= self.num_gone
        return self.blocks[number] * self.block_size + offset

    @property
    def num_gone(self) -> int:
        """Blocks between the sinks and the window that have been freed."""
        return max(self.first_position // self.block_size - self.num_sink_blocks, 0)

    @property
    def end(self) -> int:
        """The first position after the last block."""
        return (len(self.blocks) + self.num_gone) * self.block_size

    def numbered(self) -> list[tuple[int, int]]:
        """(number, block) of the blocks that are there: token i lies in number i // block_size."""
        sinks, gone = self.num_sink_blocks, self.num_gone
        return [(i if i < sinks else i + gone, block) for i, block in enumerate(self.blocks)]


@dataclass(frozen=True, slots=True)
class Extent:
    """A sequence's one contiguous range of slots; token i lies at `start` + i."""

    start: int
    size: int

    def slots(self, start: int, stop: int) -> list[int]:
        """The slots of positions start to stop - 1."""
        return list(range(self.start + start, self.start + stop))


Placement: TypeAlias = BlockTable | Extent
