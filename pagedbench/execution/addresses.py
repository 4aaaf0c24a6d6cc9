"""How attention is told where the tokens of some rows lie: block tables, or where extents begin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.select import Ops


@dataclass(frozen=True, slots=True)
class LayerCache:
    """What every read of one layer needs."""

    keys: Tensor  # [num_slots, num_kv_heads, head_dim]
    values: Tensor  # [num_slots, num_kv_heads, head_dim]
    ops: Ops
    scale: float


class Addresses(ABC):
    """Where the tokens of some rows lie."""

    @abstractmethod
    def decode(self, query: Tensor, context_lens: Tensor, cache: LayerCache) -> Tensor:
        """One query a row, [num_rows, num_heads, head_dim], over the row's whole context."""

    @abstractmethod
    def prefill(
        self, query: Tensor, query_starts: Tensor, context_lens: Tensor, cache: LayerCache
    ) -> Tensor:
        """Ragged queries, [num_tokens, num_heads, head_dim]: the last positions of each row's context."""

    @abstractmethod
    def pick(self, rows: Tensor) -> Addresses:
        """Those of some rows, int64 [num_picked]."""


@dataclass(frozen=True, slots=True)
class PagedAddresses(Addresses):
    """Block tables; what stands behind a row's last block means nothing."""

    tables: Tensor  # int32 [num_rows, max_blocks]
    block_size: int

    def decode(self, query: Tensor, context_lens: Tensor, cache: LayerCache) -> Tensor:
        return cache.ops.paged_decode(
            query, cache.keys, cache.values, self.tables, context_lens, self.block_size, cache.scale
        )

    def prefill(
        self, query: Tensor, query_starts: Tensor, context_lens: Tensor, cache: LayerCache
    ) -> Tensor:
        return cache.ops.paged_prefill(
            query,
            cache.keys,
            cache.values,
            self.tables,
            query_starts,
            context_lens,
            self.block_size,
            cache.scale,
        )

    def pick(self, rows: Tensor) -> PagedAddresses:
        return PagedAddresses(self.tables.index_select(0, rows), self.block_size)


@dataclass(frozen=True, slots=True)
class ContiguousAddresses(Addresses):
    """The first slot of every row's extent."""

    starts: Tensor  # int64 [num_rows]

    def decode(self, query: Tensor, context_lens: Tensor, cache: LayerCache) -> Tensor:
        return cache.ops.contiguous_decode(
            query, cache.keys, cache.values, self.starts, context_lens, cache.scale
        )

    def prefill(
        self, query: Tensor, query_starts: Tensor, context_lens: Tensor, cache: LayerCache
    ) -> Tensor:
        return cache.ops.contiguous_prefill(
            query, cache.keys, cache.values, self.starts, query_starts, context_lens, cache.scale
        )

    def pick(self, rows: Tensor) -> ContiguousAddresses:
        return ContiguousAddresses(self.starts.index_select(0, rows))
