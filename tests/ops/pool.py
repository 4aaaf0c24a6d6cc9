"""A KV pool filled with sequences whose blocks, or extents, lie in random order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pagedbench.ops.addresses import BlockTables, Extents

if TYPE_CHECKING:
    from pagedbench.ops.addresses import Addresses


@dataclass(frozen=True, slots=True)
class Pool:
    """The caches of one layer; slots that belong to nobody hold NaN.

    `keys[i]`, `values[i]`: what was stored for sequence i, [context_len, num_kv_heads, head_dim].
    """

    key_cache: Tensor
    value_cache: Tensor
    context_lens: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    block_size: int
    block_tables: Tensor  # entries beyond the context are -1; empty for extents
    extent_starts: Tensor  # empty for blocks

    @property
    def addresses(self) -> Addresses:
        if self.block_size:
            return BlockTables(self.block_tables, self.block_size)
        return Extents(self.extent_starts)


def _filled(
    slots: list[Tensor], num_slots: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    caches = torch.full((2, num_slots, num_kv_heads, head_dim), float("nan"), dtype=dtype)
    keys, values = (
        [torch.randn(len(own), num_kv_heads, head_dim).to(dtype) for own in slots] for _ in range(2)
    )
    for cache, stored in zip(caches, (keys, values), strict=True):
        for own, part in zip(slots, stored, strict=True):
            cache[own] = part
    return caches[0], caches[1], keys, values


def paged_pool(
    context_lens: list[int], block_size: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype
) -> Pool:
    counts = [-(-length // block_size) for length in context_lens]
    num_blocks = sum(counts) + 2
    shuffled = torch.randperm(num_blocks)
    tables = torch.full((len(counts), max(counts) + 1), -1, dtype=torch.int32)
    slots = []
    for i, (blocks, length) in enumerate(
        zip(shuffled[: sum(counts)].split(counts), context_lens, strict=True)
    ):
        tables[i, : len(blocks)] = blocks.int()
        own = blocks[:, None] * block_size + torch.arange(block_size)
        slots.append(own.flatten()[:length])
    key_cache, value_cache, keys, values = _filled(
        slots, num_blocks * block_size, num_kv_heads, head_dim, dtype
    )
    lens = torch.tensor(context_lens, dtype=torch.int32)
    return Pool(key_cache, value_cache, lens, keys, values, block_size, tables, torch.empty(0))


def extent_pool(context_lens: list[int], num_kv_heads: int, head_dim: int, dtype: torch.dtype) -> Pool:
    starts, slots, end = [0] * len(context_lens), [torch.empty(0)] * len(context_lens), 3
    for i in torch.randperm(len(context_lens)).tolist():
        starts[i] = end
        slots[i] = torch.arange(end, end + context_lens[i])
        end += context_lens[i] + 5
    key_cache, value_cache, keys, values = _filled(slots, end, num_kv_heads, head_dim, dtype)
    lens = torch.tensor(context_lens, dtype=torch.int32)
    return Pool(key_cache, value_cache, lens, keys, values, 0, torch.empty(0), torch.tensor(starts))
