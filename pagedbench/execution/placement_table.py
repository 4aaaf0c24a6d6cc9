"""PlacementTable: block tables or extents of many sequences as one array, rewritten where they changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pagedbench.memory.layer_group import ALL_LAYERS
from pagedbench.memory.placement import BlockTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.placement import Placement


def zeros(*shape: int, dtype: torch.dtype, pin_memory: bool) -> NDArray[Any]:
    """An array of zeros; from pinned memory a GPU copies asynchronously."""
    return torch.zeros(shape, dtype=dtype, pin_memory=pin_memory).numpy()


class PlacementTable:
    """The placements of sequences, one row per sequence.

    ```
    block tables, int32    [7, 2, 9, -]  [4, -, -, -]      the blocks; entries after them are never read
    extents, int64         [512]         [64]              the first slot
    ```
    A manager's list of blocks grows at its end, and its last block may be replaced; any other change comes
    as a new list (`KVManager.placement`). So only the end of a list that was written before is read again.
    For layers with a window, tables lack early blocks, and each row has a first position.
    """

    def __init__(self, placement: Placement, *, pin_memory: bool, layers: LayerGroup = ALL_LAYERS) -> None:
        """An empty table for placements of this kind, in these layers."""
        self.block_size = placement.block_size if isinstance(placement, BlockTable) else None
        self._window = None if self.block_size is None else layers.window
        self._num_sink_blocks = layers.num_sink_blocks(self.block_size or 1)
        self._first_positions: NDArray[np.int32] = zeros(0, dtype=torch.int32, pin_memory=pin_memory)
        self._pin_memory = pin_memory
        self._array = self._zeros(0, 1)
        self._lists: list[list[int]] = []  # by row: the manager's own lists
        self._lens: list[int] = []  # by row: how many of the list's blocks are in the table

    def _zeros(self, num_rows: int, num_columns: int) -> NDArray[Any]:
        dtype = torch.int64 if self.block_size is None else torch.int32
        return zeros(num_rows, num_columns, dtype=dtype, pin_memory=self._pin_memory)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start to stop - 1.  # [stop - start, max_blocks]"""
        return self._array[start:stop]

    def first_positions(self, start: int, stop: int) -> NDArray[np.int32] | None:
        """Those of rows start to stop - 1, see `BlockTables`; None without a window.  # [stop - start]"""
        return None if self._window is None else self._first_positions[start:stop]

    def arrange(self, old_rows: NDArray[np.int64]) -> None:
        """Reorder the rows: row i becomes what row `old_rows[i]` was, or empty where that is -1."""
        self._reserve(len(old_rows), 1)
        if self._lists:
            self._array[: len(old_rows)] = self._array[np.maximum(old_rows, 0)]
            if self._window is not None:
                self._first_positions[: len(old_rows)] = self._first_positions[np.maximum(old_rows, 0)]
        rows = old_rows.tolist()
        self._lists = [self._lists[row] if row >= 0 else [] for row in rows]
        self._lens = [self._lens[row] if row >= 0 else 0 for row in rows]

    def write(self, row: int, placement: Placement) -> None:
        """Write a placement into a row, at most the one after the last."""
        blocks = placement.blocks if isinstance(placement, BlockTable) else [placement.start]
        if row == len(self._lists):
            self._lists.append([])
            self._lens.append(0)
        self._reserve(row + 1, len(blocks))
        first = max(self._lens[row] - 1, 0) if self._lists[row] is blocks else 0
        self._array[row, first : len(blocks)] = blocks[first:]
        self._lists[row] = blocks
        self._lens[row] = len(blocks)
        if self._window is not None:
            assert isinstance(placement, BlockTable), "extents begin with the sequence"
            self._first_positions[row] = placement.first_position

    def _reserve(self, num_rows: int, num_blocks: int) -> None:
        height, width = self._array.shape
        if num_rows > height or num_blocks > width:
            new_height = max(2 * height, num_rows) if num_rows > height else height
            new_width = max(2 * width, num_blocks) if num_blocks > width else width
            old, self._array = self._array, self._zeros(new_height, new_width)
            self._array[:height, :width] = old
        if self._window is not None and num_rows > len(self._first_positions):
            starts, number = self._first_positions, len(self._array)
            self._first_positions = zeros(number, dtype=torch.int32, pin_memory=self._pin_memory)
            self._first_positions[: len(starts)] = starts

    def may_change(self, positions: NDArray[np.int64]) -> NDArray[np.bool_] | bool:
        """Which rows may differ from those of the previous iteration, now that `positions` are written.

        They have got a new block, or lost one to the window.  # [num_rows]
        """
        if self.block_size is None:
            return False
        is_start: NDArray[np.bool_] = positions % self.block_size == 0
        if self._window is not None:
            is_start |= (positions + 1 - self._window) % self.block_size == 0
        return is_start

    def slots(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slot of `positions[i]` of row `rows[i]`.  # [num_tokens]"""
        if self.block_size is None:
            starts: NDArray[np.int64] = self._array[rows, 0]
            return starts + positions
        blocks, offsets = np.divmod(positions, self.block_size)
        if self._window is not None:
            sinks = self._num_sink_blocks
            gone = np.maximum(self._first_positions[rows] // self.block_size - sinks, 0)
            blocks = blocks - np.where(blocks >= sinks, gone, 0)
        return self._array[rows, blocks].astype(np.int64) * self.block_size + offsets
