"""The sizes of the attention kernels' tiles: what fits the shared memory of an SM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton

if TYPE_CHECKING:
    from torch import Tensor

TILE_BYTES = 16 * 1024
"""The most bytes of one tile's keys in the query's dtype: a few tiles fit the 99 KiB of smaller GPUs."""

MIN_DOT = 16
"""The least rows, columns and depth of a matrix product on tensor cores."""


def head_pad_of(query: Tensor) -> int:
    """head_dim, padded for the kernels: to a power of two that is large enough for tensor cores."""
    return max(triton.next_power_of_2(query.shape[2]), MIN_DOT)


def tile_of(query: Tensor) -> int:
    """Tokens per tile, a power of two from 16 to 64."""
    fitting = TILE_BYTES // (head_pad_of(query) * query.element_size())
    return min(max(triton.next_power_of_2(fitting + 1) // 2, MIN_DOT), 64)


def rows_of(query: Tensor) -> int:
    """Rows per tile of queries (tokens times the query heads of a KV head), a power of two."""
    if query.element_size() > 2:  # no tensor cores: the sums and the operands must fit the registers
        return 32
    return 128 if head_pad_of(query) <= 128 else 64
