"""Prompt attention, ragged and padded, against float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from ops.exact import assert_close
from ops.pool import Pool, extent_pool, paged_pool

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.select import Ops

DTYPES = [torch.float32, torch.bfloat16]
CONTEXT_LENS = [17, 1, 16, 40, 9]
NUM_ROWS = [17, 1, 5, 1, 0]  # whole prompts, the ends of cached ones, and none


def ragged(pool: Pool, num_heads: int) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
    """Queries, query_starts, and every sequence's (query, key, value)."""
    starts = torch.tensor([0, *NUM_ROWS]).cumsum(0).int()
    head_dim = pool.key_cache.shape[2]
    query = torch.randn(sum(NUM_ROWS), num_heads, head_dim).to(pool.key_cache.dtype)
    return query, starts, list(zip(query.split(NUM_ROWS), pool.keys, pool.values, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_size", [1, 8, 16, 32])
@pytest.mark.parametrize("group_size", [1, 4])
def test_paged_prefill(ops: Ops, block_size: int, group_size: int, dtype: torch.dtype) -> None:
    pool = paged_pool(CONTEXT_LENS, block_size, 2, 16, dtype)
    query, starts, contexts = ragged(pool, 2 * group_size)
    out = ops.paged_prefill(
        query,
        pool.key_cache,
        pool.value_cache,
        pool.block_tables,
        starts,
        pool.context_lens,
        block_size,
        0.25,
    )
    assert_close(out, contexts, 0.25)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group_size", [1, 4])
def test_contiguous_prefill(ops: Ops, group_size: int, dtype: torch.dtype) -> None:
    pool = extent_pool(CONTEXT_LENS, 2, 16, dtype)
    query, starts, contexts = ragged(pool, 2 * group_size)
    out = ops.contiguous_prefill(
        query, pool.key_cache, pool.value_cache, pool.extent_starts, starts, pool.context_lens, 0.25
    )
    assert_close(out, contexts, 0.25)


def test_prefill_of_nothing(ops: Ops) -> None:
    cache, none = torch.randn(8, 2, 16), torch.empty(0, dtype=torch.int32)
    query, starts = torch.empty(0, 2, 16), torch.zeros(1, dtype=torch.int32)
    tables = torch.empty(0, 1, dtype=torch.int32)
    assert ops.paged_prefill(query, cache, cache, tables, starts, none, 4, 1.0).shape == (0, 2, 16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group_size", [1, 2])
def test_padded_prefill(ops: Ops, group_size: int, dtype: torch.dtype) -> None:
    lengths = [12, 1, 7, 0]
    key, value = torch.randn(2, 4, 12, 2, 16).to(dtype)
    query = torch.randn(4, 12, 2 * group_size, 16).to(dtype)
    out = ops.padded_prefill(query, key, value, torch.tensor(lengths), 0.25)
    assert out.shape == query.shape
    assert out.isfinite().all()
    rows = [slice(12 - length, 12) for length in lengths[:3]]
    contexts = [(query[i, row], key[i, row], value[i, row]) for i, row in enumerate(rows)]
    assert_close(torch.cat([out[i, row] for i, row in enumerate(rows)]), contexts, 0.25)


def test_padding_has_no_influence(ops: Ops) -> None:
    key, value = torch.randn(2, 1, 12, 2, 16)
    query = torch.randn(1, 12, 2, 16)
    before = ops.padded_prefill(query, key, value, torch.tensor([5]), 0.25)[:, 7:]
    for side in (query, key, value):
        side[:, :7] = 1e4
    after = ops.padded_prefill(query, key, value, torch.tensor([5]), 0.25)
    assert torch.equal(after[:, 7:], before)
    assert after.isfinite().all()
