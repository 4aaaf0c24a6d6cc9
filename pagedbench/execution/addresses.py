"""How attention is told where the tokens of some rows lie: block tables, or where extents begin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.ops.select import Ops


@dataclass(frozen=True, slots=True)
class LayerCache:
    """What every read of one layer needs."""

    keys: Tensor  # [num_slots, num_kv_heads, head_dim]
    values: Tensor  # [num_slots, num_kv_heads, head_dim]
    ops: Ops
    scale: float


def layers_of(cache: KVCache, ops: Ops) -> list[LayerCache]:
    """The layers of a pool, to be read by a backend."""
    return [
        LayerCache(keys, values, ops, keys.shape[-1] ** -0.5)
        for keys, values in zip(cache.keys, cache.values, strict=True)
    ]


class Addresses(ABC):
    """Where the tokens of some rows lie."""

    @property
    @abstractmethod
    def layout(self) -> int:
        """Tokens of a block; 0 for extents. Addresses of one layout differ in what they say only."""

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

    @abstractmethod
    def blank(self, num_rows: int, max_len: int) -> Addresses:
        """Others of the same kind, for contexts of up to `max_len` tokens, that say nothing yet."""

    @abstractmethod
    def fill(self, other: Addresses) -> None:
        """Take over what `other` says, in place. Its rows are the first of these."""


@dataclass(frozen=True, slots=True)
class PagedAddresses(Addresses):
    """Block tables; what stands behind a row's last block means nothing."""

    tables: Tensor  # int32 [num_rows, max_blocks]
    block_size: int

    @property
    def layout(self) -> int:
        return self.block_size

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

    def blank(self, num_rows: int, max_len: int) -> PagedAddresses:
        width = -(-max_len // self.block_size)
        return PagedAddresses(self.tables.new_zeros((num_rows, width)), self.block_size)

    def fill(self, other: Addresses) -> None:
        assert isinstance(other, PagedAddresses), "both are block tables"
        width = min(self.tables.shape[1], other.tables.shape[1])  # a wider table has room to spare
        self.tables[: len(other.tables), :width].copy_(other.tables[:, :width])


@dataclass(frozen=True, slots=True)
class ContiguousAddresses(Addresses):
    """The first slot of every row's extent."""

    starts: Tensor  # int64 [num_rows]

    @property
    def layout(self) -> int:
        return 0

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

    def blank(self, num_rows: int, max_len: int) -> ContiguousAddresses:
        return ContiguousAddresses(self.starts.new_zeros(num_rows))

    def fill(self, other: Addresses) -> None:
        assert isinstance(other, ContiguousAddresses), "both are extents"
        self.starts[: len(other.starts)].copy_(other.starts)
