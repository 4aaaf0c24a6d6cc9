"""How the rows of one iteration find their keys and values: positions, slots, and the op to read them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from pagedbench.memory.manager import BlockTable, Extent

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray
    from torch import Tensor

    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.memory.manager import Placement
    from pagedbench.ops.select import Ops

NO_SLOT = -1
"""Where padding is written: nowhere."""


def on_device(array: NDArray[np.int64], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The array as a tensor of `dtype` on `device`."""
    return torch.from_numpy(array).to(device=device, dtype=dtype)


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
    def slots(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slot of `positions[i]` of row `rows[i]`.  # [num_tokens]"""

    @abstractmethod
    def decode(self, query: Tensor, context_lens: Tensor, cache: LayerCache) -> Tensor:
        """One query a row, [num_rows, num_heads, head_dim], over the row's whole context."""

    @abstractmethod
    def prefill(
        self, query: Tensor, query_starts: Tensor, context_lens: Tensor, cache: LayerCache
    ) -> Tensor:
        """Ragged queries, [num_tokens, num_heads, head_dim]: the last positions of each row's context."""


class PagedAddresses(Addresses):
    """Block tables, padded to the longest."""

    def __init__(self, placements: Items[BlockTable], device: torch.device) -> None:
        lens = np.array([len(placement.blocks) for placement in placements])
        flat = chain.from_iterable(placement.blocks for placement in placements)
        self._tables = np.zeros((len(placements), lens.max()), dtype=np.int32)  # [num_rows, max_blocks]
        self._tables[np.arange(lens.max()) < lens[:, None]] = np.fromiter(flat, np.int32, count=lens.sum())
        self._block_size = placements[0].block_size
        self._device_tables = torch.from_numpy(self._tables).to(device)

    def slots(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
        blocks, offsets = np.divmod(positions, self._block_size)
        return self._tables[rows, blocks].astype(np.int64) * self._block_size + offsets

    def decode(self, query: Tensor, context_lens: Tensor, cache: LayerCache) -> Tensor:
        return cache.ops.paged_decode(
            query,
            cache.keys,
            cache.values,
            self._device_tables,
            context_lens,
            self._block_size,
            cache.scale,
        )

    def prefill(
        self, query: Tensor, query_starts: Tensor, context_lens: Tensor, cache: LayerCache
    ) -> Tensor:
        return cache.ops.paged_prefill(
            query,
            cache.keys,
            cache.values,
            self._device_tables,
            query_starts,
            context_lens,
            self._block_size,
            cache.scale,
        )


class ContiguousAddresses(Addresses):
    """The first slot of every row's extent."""

    def __init__(self, placements: Items[Extent], device: torch.device) -> None:
        self._starts = np.array([placement.start for placement in placements], dtype=np.int64)  # [num_rows]
        self._device_starts = torch.from_numpy(self._starts).to(device)

    def slots(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._starts[rows] + positions

    def decode(self, query: Tensor, context_lens: Tensor, cache: LayerCache) -> Tensor:
        return cache.ops.contiguous_decode(
            query, cache.keys, cache.values, self._device_starts, context_lens, cache.scale
        )

    def prefill(
        self, query: Tensor, query_starts: Tensor, context_lens: Tensor, cache: LayerCache
    ) -> Tensor:
        return cache.ops.contiguous_prefill(
            query, cache.keys, cache.values, self._device_starts, query_starts, context_lens, cache.scale
        )


def addresses_of(placements: Items[Placement], device: torch.device) -> Addresses:
    """Addresses of rows that one memory manager placed, so all in the same way."""
    tables = [placement for placement in placements if isinstance(placement, BlockTable)]
    if tables:
        return PagedAddresses(tables, device)
    return ContiguousAddresses([item for item in placements if isinstance(item, Extent)], device)


class Rows:
    """Sequences that compute some of their positions in this iteration, one after another.

    ```
    row 0: positions starts[0] .. stops[0] - 1     row 1: ...        tokens, flattened: row by row
    left-padded to 6:  . . . 0 1 2 | . 0 1 2 3 4                     no slot where there is a dot
    ```
    Padded rows begin at position 0.
    """

    def __init__(
        self,
        addresses: Addresses,
        starts: NDArray[np.int64],  # [num_rows]
        stops: NDArray[np.int64],  # [num_rows]
        padded_len: int | None,
        device: torch.device,
    ) -> None:
        widths = stops - starts if padded_len is None else np.full_like(stops, padded_len)
        query_starts = np.concatenate(([0], np.cumsum(widths)))  # [num_rows + 1]
        rows = np.repeat(np.arange(len(stops)), widths)  # [num_tokens]
        positions = np.arange(query_starts[-1]) - query_starts[1:][rows] + stops[rows]  # [num_tokens]
        is_padding = positions < 0
        self.addresses = addresses
        self.positions = np.maximum(positions, 0)
        self.slots = np.where(is_padding, NO_SLOT, addresses.slots(rows, self.positions))  # [num_tokens]
        self.row_ends = query_starts[1:]  # [num_rows]; a row's last token is the one before
        self.num_tokens = len(positions)
        self.padded_len = padded_len
        self.query_starts = on_device(query_starts, torch.int32, device)
        self.lengths = on_device(stops, torch.int64, device)
        self.context_lens = self.lengths.to(torch.int32)


class BatchAttention:
    """The attention of one iteration, made once and called by every layer. See `models.layers.Attend`.

    Tokens are the prefill rows' and then the decode rows', one token each.
    """

    def __init__(self, cache: KVCache, ops: Ops, prefills: Rows | None, decodes: Rows | None) -> None:
        parts = [rows.slots for rows in (prefills, decodes) if rows is not None]
        self._cache = cache
        self._ops = ops
        self._prefills = prefills
        self._decodes = decodes
        self._slots = on_device(np.concatenate(parts), torch.int64, cache.device)  # [num_tokens]

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        cache = LayerCache(
            self._cache.keys[layer], self._cache.values[layer], self._ops, query.shape[-1] ** -0.5
        )
        self._ops.write_kv(key, value, cache.keys, cache.values, self._slots)
        prefills, decodes, num_prefill_tokens = self._prefills, self._decodes, 0
        outputs = []
        if prefills is not None:
            end = num_prefill_tokens = prefills.num_tokens
            outputs.append(_prefill(prefills, query[:end], key[:end], value[:end], cache))
        if decodes is not None:
            query = query[num_prefill_tokens:]  # [num_decodes, num_heads, head_dim]
            outputs.append(decodes.addresses.decode(query, decodes.context_lens, cache))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)  # [num_tokens, num_heads, head_dim]


def _prefill(rows: Rows, query: Tensor, key: Tensor, value: Tensor, cache: LayerCache) -> Tensor:
    if rows.padded_len is None:
        return rows.addresses.prefill(query, rows.query_starts, rows.context_lens, cache)
    dense = (-1, rows.padded_len)  # to [num_rows, padded_len, num_heads, head_dim]
    out = cache.ops.padded_prefill(
        query.unflatten(0, dense),
        key.unflatten(0, dense),
        value.unflatten(0, dense),
        rows.lengths,
        cache.scale,
    )
    return out.flatten(0, 1)  # [num_tokens, num_heads, head_dim]
