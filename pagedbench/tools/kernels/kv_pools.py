"""KVPools: equally many tokens in each of several KV pools, in shuffled blocks and in shuffled extents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.execution.kv_cache import KVCache
from pagedbench.ops.addresses import BlockTables, Extents
from pagedbench.ops.quantized import dequantized
from pagedbench.tools.kernels.cases import Form

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.addresses import Addresses
    from pagedbench.tools.kernels.cases import Setup

CHECKED_TOKENS = 2**17
"""With more tokens, only some sequences are checked: float64 copies of all would take gigabytes."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The places of `batch` sequences of `context` tokens, the same in every pool.

    Attributes:
        block_size: None for extents.
        addresses: those of `batch` rows; a table has as many columns as a sequence has blocks.
        slots: int64 [batch, context].
    """

    block_size: int | None
    addresses: Addresses
    slots: Tensor

    @property
    def form(self) -> Form:
        return Form.CONTIGUOUS if self.block_size is None else Form.PAGED


class KVPools:
    """Pools that calls use in turn, filled with normally distributed numbers.

    They are the layers of one `KVCache`, so their memory layout is that of the engine. A call reads one of
    them; together they exceed the last-level cache.

    ```
    paged, blocks of 2:   sequence 0 -> blocks 5, 1, 3    sequence 1 -> blocks 0, 4, 2
    contiguous:           sequence 0 -> slots 6 .. 11     sequence 1 -> slots 0 .. 5
    ```
    """

    def __init__(self, setup: Setup, batch: int, context: int, *, copies: int = 1) -> None:
        """`copies`: there is room for this many copies of the sequences."""
        self.setup = setup
        self.batch = batch
        self.context = context
        self.num_pools = setup.num_sets(batch * context * setup.kv_row_bytes)
        self._extent_len = max(-(-context // size) * size for size in (1, *setup.block_sizes))
        self._num_slots = batch * copies * self._extent_len
        shape = replace(setup.shape, num_layers=self.num_pools)
        cache = KVCache(shape, self._num_slots, setup.cache_dtype, setup.device)
        setup.fill(cache.tensors)
        self.keys = cache.keys
        self.values = cache.values

    @property
    def placements(self) -> list[Placement]:
        """Extents, then blocks of every size."""
        return [self.placement(size) for size in (None, *self.setup.block_sizes)]

    def placement(self, block_size: int | None, copy: int = 0) -> Placement:
        """The sequences in shuffled blocks, or (None) in shuffled extents: blocks of their whole length.

        The shuffle is the same in every run. Different copies of the sequences share no slot.
        """
        import torch

        size = block_size or self._extent_len
        per_sequence = -(-self.context // size)
        order = torch.randperm(self._num_slots // size, generator=torch.Generator().manual_seed(0))
        chosen = order[copy * self.batch * per_sequence :][: self.batch * per_sequence]
        tables = chosen.view(self.batch, per_sequence)
        slots = (tables[:, :, None] * size + torch.arange(size)).flatten(1)[:, : self.context].contiguous()
        device = self.setup.device
        addresses: Addresses = BlockTables(tables.int().to(device), size)
        if block_size is None:
            addresses = Extents((tables[:, 0] * size).to(device))
        return Placement(block_size, addresses, slots.to(device))

    def caches(self, pool: int) -> list[Tensor]:
        """Keys and values of a pool.  # [num_slots, num_kv_heads, head_dim] each"""
        return [self.keys[pool], self.values[pool]]

    def gathered(self, pool: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values in those slots, as numbers.  # [*slots.shape, num_kv_heads, head_dim] each"""
        return dequantized(self.keys[pool][slots]), dequantized(self.values[pool][slots])

    def sample(self) -> list[int]:
        """Sequences to check: all of them, or evenly spread ones with `CHECKED_TOKENS` tokens in total."""
        count = min(max(CHECKED_TOKENS // self.context, 2), self.batch)
        return sorted({round(i * (self.batch - 1) / max(count - 1, 1)) for i in range(count)})
