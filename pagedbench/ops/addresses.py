"""Where the tokens of sequences are, in the form that attention reads: block tables or extents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class BlockTables:
    """Block tables, one row per sequence. Entries after a row's last block are never read.

    Without `first_positions` column c holds the block of positions c * block_size onwards. With them the
    blocks between an attention's sinks and `first_positions[i]` are gone, and so are their columns:

    ```
    block_size 4, sinks 6, first position 16, context of 22 tokens
    column       0       1       2         3         4
    positions  0 .. 3  4 .. 7  16 .. 19  20 .. 21  nothing
    ```
    The first ceil(sinks / block_size) columns hold the blocks of the sinks; the next ones begin at
    `first_positions[i]`, or after the sinks' blocks if that is later; the table then has no gap.
    """

    tables: Tensor  # int32 [num_rows, max_blocks]
    block_size: int
    first_positions: Tensor | None = None  # int32 [num_rows], multiples of block_size

    @property
    def layout(self) -> int:
        """Tokens in a block; 0 for extents. Addresses of one layout have tensors of the same kinds."""
        return self.block_size

    def slots(self, positions: Tensor, sinks: int) -> Tensor:
        """The slots of every row's tokens at `positions`, int64 [n].  # int64 [num_rows, n]

        Positions whose blocks are gone get any number.
        """
        blocks, offsets = positions // self.block_size, positions % self.block_size  # [n]
        columns = blocks.expand(len(self.tables), -1)  # [num_rows, n]
        if self.first_positions is not None:
            num_sink_blocks = -(-sinks // self.block_size)
            num_gone = (self.first_positions // self.block_size - num_sink_blocks).clamp(min=0)
            columns = columns - (blocks >= num_sink_blocks) * num_gone[:, None]
        entries = self.tables.gather(1, columns.clamp(0, self.tables.shape[1] - 1))
        return entries.long() * self.block_size + offsets

    def pick(self, rows: Tensor | slice) -> BlockTables:
        """The addresses of some rows, given by their numbers, int64 [num_picked], or as a slice."""
        first_positions = self.first_positions
        if first_positions is not None:
            first_positions = first_positions[rows]
        return BlockTables(self.tables[rows], self.block_size, first_positions)

    def blank(self, num_rows: int, max_len: int) -> BlockTables:
        """Zeros of the same layout, for contexts of up to `max_len` tokens."""
        tables = self.tables.new_zeros((num_rows, -(-max_len // self.block_size)))
        first_positions = self.first_positions
        if first_positions is not None:
            first_positions = first_positions.new_zeros(num_rows)
        return BlockTables(tables, self.block_size, first_positions)

    def fill(self, other: Addresses) -> None:
        """Copy `other` into the first rows, in place."""
        assert isinstance(other, BlockTables), "both are block tables"
        width = min(self.tables.shape[1], other.tables.shape[1])  # a wider table has room to spare
        self.tables[: len(other.tables), :width].copy_(other.tables[:, :width])
        if self.first_positions is None or other.first_positions is None:
            assert self.first_positions is other.first_positions, "both have first positions, or neither"
        else:
            self.first_positions[: len(other.tables)].copy_(other.first_positions)


@dataclass(frozen=True, slots=True)
class Extents:
    """The first slot of each sequence's extent, which holds its tokens in order."""

    starts: Tensor  # int64 [num_rows]

    @property
    def layout(self) -> int:
        """See `BlockTables.layout`."""
        return 0

    def slots(self, positions: Tensor, sinks: int) -> Tensor:
        """See `BlockTables.slots`."""
        return self.starts[:, None] + positions

    def pick(self, rows: Tensor | slice) -> Extents:
        """See `BlockTables.pick`."""
        return Extents(self.starts[rows])

    def blank(self, num_rows: int, max_len: int) -> Extents:
        """See `BlockTables.blank`."""
        return Extents(self.starts.new_zeros(num_rows))

    def fill(self, other: Addresses) -> None:
        """See `BlockTables.fill`."""
        assert isinstance(other, Extents), "both are extents"
        self.starts[: len(other.starts)].copy_(other.starts)


Addresses = BlockTables | Extents
"""Where the tokens of sequences are, one row per sequence."""
