"""KVPools: the same number of tokens in several KV pools, in shuffled blocks and in shuffled extents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.execution.kv_cache import KVCache
from pagedbench.ops.addresses import BlockTables, Extents

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from pagedbench.ops.addresses import Addresses
    from pagedbench.tools.kernels.cases import Setup

CHECKED_TOKENS = 2**17
"""Above it, a sample of the sequences is compared: float64 copies of them all would take gigabytes."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where `batch` sequences of `context` tokens lie; the same in every pool.

    Attributes:
        block_size: None for extents.
        addresses: of `batch` rows; tables are as wide as a sequence has blocks.
        slots: int64 [batch, context].
    """

    block_size: int | None
    addresses: Addresses
    slots: Tensor

    @property
    def form(self) -> str:
        return "contiguous" if self.block_size is None else "paged"


class KVPools:
    """Pools that calls take in turn, filled with normal numbers.

    They are the layers of one `KVCache`, so they lie in memory as the engine's do. A call reads one of
    them; together they exceed the last-level cache.

    ```
    paged, blocks of 2:   sequence 0 -> blocks 5, 1, 3    sequence 1 -> blocks 0, 4, 2
    contiguous:           sequence 0 -> slots 6 .. 11     sequence 1 -> slots 0 .. 5
    ```
    """

    def __init__(self, setup: Setup, batch: int, context: int, *, copies: int = 1) -> None:
        import torch

        self.setup = setup
        self.batch = batch
        self.context = context
        self.num_pools = setup.num_pools(batch * context * setup.kv_row_bytes)
        self._extent_len = max(-(-context // size) * size for size in (1, *setup.block_sizes))
        self._num_places = batch * copies
        num_slots = self._num_places * self._extent_len
        cache = KVCache(
            replace(setup.shape, num_layers=self.num_pools), num_slots, setup.dtype, setup.device
        )
        for tensor in cache.tensors:
            tensor.normal_()
        self.keys = cache.keys
        self.values = cache.values
        self.context_lens = torch.full((batch,), context, dtype=torch.int32, device=setup.device)

    @property
    def placements(self) -> list[Placed]:
        """Extents, then blocks of every size."""
        return [self.extents(), *(self.blocks(size) for size in self.setup.block_sizes)]

    def extents(self, *, first: int = 0) -> Placed:
        """In random order. `first`: the first place of the shuffle to take."""
        import torch

        order = torch.randperm(self._num_places, generator=_seeded())[first : first + self.batch]
        starts = order * self._extent_len  # [batch]
        slots = starts[:, None] + torch.arange(self.context)
        return Placed(None, Extents(starts.to(self.setup.device)), slots.to(self.setup.device))

    def blocks(self, block_size: int, *, first: int = 0) -> Placed:
        """In random order. `first`: the first sequence's worth of the shuffle to take."""
        import torch

        per_sequence = -(-self.context // block_size)
        num_blocks = self._num_places * self._extent_len // block_size
        order = torch.randperm(num_blocks, generator=_seeded())
        chosen = order[first * per_sequence : (first + self.batch) * per_sequence]
        tables = chosen.view(self.batch, per_sequence)
        slots = (tables[:, :, None] * block_size + torch.arange(block_size)).flatten(1)[:, : self.context]
        device = self.setup.device
        addresses = BlockTables(tables.int().to(device), block_size)
        return Placed(block_size, addresses, slots.contiguous().to(device))

    def gathered(self, pool: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values in those slots.  # [*slots.shape, num_kv_heads, head_dim] each"""
        return self.keys[pool][slots], self.values[pool][slots]

    def sample(self) -> list[int]:
        """Sequences to compare: all of them, or as many as `CHECKED_TOKENS` hold, spread evenly."""
        count = min(max(CHECKED_TOKENS // self.context, 2), self.batch)
        return sorted({round(i * (self.batch - 1) / max(count - 1, 1)) for i in range(count)})


def _seeded() -> Generator:
    """The same shuffle in every run."""
    import torch

    return torch.Generator().manual_seed(0)
