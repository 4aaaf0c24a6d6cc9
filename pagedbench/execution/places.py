"""Places: rows of block tables or extents on the host, rewritten where they changed, and on the device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch

from pagedbench.memory.manager import BlockTable, Extent
from pagedbench.ops.addresses import BlockTables, Extents

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray
    from torch import Tensor

    from pagedbench.memory.manager import Placement
    from pagedbench.ops.addresses import Addresses


class Mirrored:
    """An array on the host, and the same as a tensor on the device; on a CPU they are one memory.

    The array may be changed once the device has run what reads the tensor.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        is_apart = device.type != "cpu"
        self._host = torch.zeros(shape, dtype=dtype, pin_memory=is_apart)
        self._device = torch.zeros(shape, dtype=dtype, device=device) if is_apart else self._host
        self.array: NDArray[np.int64] = self._host.numpy()

    def tensor(self, num_rows: int) -> Tensor:
        """The first rows, as they are now.  # [num_rows, ...]"""
        mirror = self._device[:num_rows]
        if self._device is not self._host:
            mirror.copy_(self._host[:num_rows], non_blocking=True)
        return mirror


class Places(ABC):
    """Where the tokens of some rows lie."""

    @abstractmethod
    def seat(self, kept: Items[int]) -> None:
        """Have as many rows as `kept`, of which row i is the present row `kept[i]`, or -1: a new one."""

    @abstractmethod
    def write(self, row: int, placement: Placement) -> None:
        """Row number `row` lies there."""

    @abstractmethod
    def is_due(self, stops: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows may have grown a block for the position before `stops`.  # [num_rows]"""

    @abstractmethod
    def slots(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slot of `positions[i]` of row `rows[i]`.  # [num_tokens]"""

    @abstractmethod
    def addresses(self) -> Addresses:
        """All rows, for attention."""


class PagedPlaces(Places):
    """Block tables, each in a row that is at least as long.

    A manager's list of blocks grows at its end, and its last block may be replaced; whatever else
    changes comes as a new list (`KVManager.placement`). So of a list that was seen before only the end is
    read.
    """

    def __init__(self, block_size: int, device: torch.device) -> None:
        self._block_size = block_size
        self._device = device
        self._tables = Mirrored((0, 0), torch.int32, device)
        self._lists: list[list[int]] = []  # the manager's own
        self._lens: list[int] = []  # as many of their blocks are in the table

    def seat(self, kept: Items[int]) -> None:
        source = np.maximum(np.array(kept, dtype=np.int64), 0)
        self._reserve(len(kept), 0)
        if self._lists:
            self._tables.array[: len(kept)] = self._tables.array[source]
        self._lists = [self._lists[row] if row >= 0 else [] for row in kept]
        self._lens = [self._lens[row] if row >= 0 else 0 for row in kept]

    def _reserve(self, num_rows: int, num_blocks: int) -> None:
        """Make room for so many rows, and for so many blocks in each."""
        old = self._tables.array
        height, width = old.shape
        if num_rows > height or num_blocks > width:
            shape = (max(2 * height, num_rows) if num_rows > height else height, width)
            shape = (shape[0], max(2 * width, num_blocks) if num_blocks > width else width)
            self._tables = Mirrored(shape, torch.int32, self._device)
            self._tables.array[:height, :width] = old

    def write(self, row: int, placement: Placement) -> None:
        assert isinstance(placement, BlockTable), "rows of one manager are placed in the same way"
        blocks = placement.blocks
        first = max(self._lens[row] - 1, 0) if self._lists[row] is blocks else 0
        self._reserve(0, len(blocks))
        self._tables.array[row, first : len(blocks)] = blocks[first:]
        self._lists[row] = blocks
        self._lens[row] = len(blocks)

    def is_due(self, stops: NDArray[np.int64]) -> NDArray[np.bool_]:
        due: NDArray[np.bool_] = (stops - 1) % self._block_size == 0
        return due

    def slots(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
        blocks, offsets = np.divmod(positions, self._block_size)
        return self._tables.array[rows, blocks].astype(np.int64) * self._block_size + offsets

    def addresses(self) -> BlockTables:
        return BlockTables(self._tables.tensor(len(self._lists)), self._block_size)


class ExtentPlaces(Places):
    """The first slot of every row's extent."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._starts = Mirrored((0,), torch.int64, device)
        self._num_rows = 0

    def seat(self, kept: Items[int]) -> None:
        source = np.maximum(np.array(kept, dtype=np.int64), 0)
        old = self._starts.array
        if len(kept) > len(old):
            self._starts = Mirrored((max(2 * len(old), len(kept)),), torch.int64, self._device)
        if self._num_rows:
            self._starts.array[: len(kept)] = old[source]
        self._num_rows = len(kept)

    def write(self, row: int, placement: Placement) -> None:
        assert isinstance(placement, Extent), "rows of one manager are placed in the same way"
        self._starts.array[row] = placement.start

    def is_due(self, stops: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.zeros(len(stops), dtype=np.bool_)  # an extent holds the whole reply

    def slots(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._starts.array[rows] + positions

    def addresses(self) -> Extents:
        return Extents(self._starts.tensor(self._num_rows))


def places_like(placement: Placement, device: torch.device) -> Places:
    """No rows yet, for placements of this kind."""
    if isinstance(placement, BlockTable):
        return PagedPlaces(placement.block_size, device)
    return ExtentPlaces(device)
