"""Prompt attention, ragged and padded."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch

from ops.cases import on_backends
from ops.exact import assert_attends
from ops.pool import Pool, extent_pool, paged_pool
from pagedbench.ops.addresses import BlockTables

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.interface import Ops

DTYPES = [torch.float32, torch.bfloat16]
CONTEXT_LENS = [17, 1, 16, 40, 9]
NUM_ROWS = [17, 1, 5, 1, 0]  # whole prompts, the ends of cached ones, and none


def ragged(pool: Pool, num_heads: int) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
    """Queries, query_starts, and every sequence's (query, key, value)."""
    starts = torch.tensor([0, *NUM_ROWS]).cumsum(0).int()
    head_dim = pool.key_cache.shape[2]
    query = torch.randn(sum(NUM_ROWS), num_heads, head_dim).to(pool.key_cache.dtype)
    return query, starts, list(zip(query.split(NUM_ROWS), pool.keys, pool.values, strict=True))


@pytest.mark.parametrize(
    ("ops", "block_size", "group_size", "dtype"),
    on_backends(product([1, 8, 16, 32], [1, 4], DTYPES), 5),
    indirect=["ops"],
)
def test_prefill_over_tables(ops: Ops, block_size: int, group_size: int, dtype: torch.dtype) -> None:
    pool = paged_pool(CONTEXT_LENS, block_size, 2, 16, dtype)
    query, starts, contexts = ragged(pool, 2 * group_size)
    out = ops.attend_prefill(
        query,
        pool.key_cache,
        pool.value_cache,
        pool.addresses,
        starts,
        pool.context_lens,
        0.25,
    )
    assert_attends(out, contexts, 0.25)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group_size", [1, 4])
def test_prefill_over_extents(ops: Ops, group_size: int, dtype: torch.dtype) -> None:
    pool = extent_pool(CONTEXT_LENS, 2, 16, dtype)
    query, starts, contexts = ragged(pool, 2 * group_size)
    out = ops.attend_prefill(
        query, pool.key_cache, pool.value_cache, pool.addresses, starts, pool.context_lens, 0.25
    )
    assert_attends(out, contexts, 0.25)


@pytest.mark.parametrize(
    ("ops", "head_dim", "dtype"), on_backends(product([8, 64, 80, 128], DTYPES), 4), indirect=["ops"]
)
def test_prefill_over_tiles(ops: Ops, head_dim: int, dtype: torch.dtype) -> None:
    """At and around the edges of the native kernel's tiles of 256 tokens, whole prompts and their ends."""
    context_lens, num_rows = [255, 257, 513, 64], [255, 257, 30, 63]
    pool = paged_pool(context_lens, 16, 1, head_dim, dtype)
    starts = torch.tensor([0, *num_rows]).cumsum(0).int()
    query = torch.randn(sum(num_rows), 2, head_dim).to(dtype)
    out = ops.attend_prefill(
        query,
        pool.key_cache,
        pool.value_cache,
        pool.addresses,
        starts,
        pool.context_lens,
        head_dim**-0.5,
    )
    contexts = list(zip(query.split(num_rows), pool.keys, pool.values, strict=True))
    assert_attends(out, contexts, head_dim**-0.5)


def test_prefill_of_many_rows(ops: Ops) -> None:
    """More than one work item has, and a group of query heads that share its rows."""
    pool = extent_pool([700], 1, 8, torch.float32)
    query, starts = torch.randn(700, 2, 8), torch.tensor([0, 700], dtype=torch.int32)
    out = ops.attend_prefill(
        query, pool.key_cache, pool.value_cache, pool.addresses, starts, pool.context_lens, 0.3
    )
    assert_attends(out, [(query, pool.keys[0], pool.values[0])], 0.3)


def test_nan_of_a_prompt_reaches_its_rows_only(native: Ops) -> None:
    """PyTorch's own attention lets it leak: it multiplies it by a weight of zero."""
    pool = extent_pool([300, 20], 1, 8, torch.float32)
    pool.value_cache[pool.extent_starts[0] + 270] = float("nan")
    query, starts = torch.randn(320, 1, 8), torch.tensor([0, 300, 320], dtype=torch.int32)
    out = native.attend_prefill(
        query, pool.key_cache, pool.value_cache, pool.addresses, starts, pool.context_lens, 0.3
    )
    assert out[270:300].isnan().all()
    assert out[:256].isfinite().all()
    assert out[300:].isfinite().all()


def test_prefill_of_nothing(ops: Ops) -> None:
    cache, none = torch.randn(8, 2, 16), torch.empty(0, dtype=torch.int32)
    query, starts = torch.empty(0, 2, 16), torch.zeros(1, dtype=torch.int32)
    tables = BlockTables(torch.empty(0, 1, dtype=torch.int32), 4)
    assert ops.attend_prefill(query, cache, cache, tables, starts, none, 1.0).shape == (0, 2, 16)


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
    assert_attends(torch.cat([out[i, row] for i, row in enumerate(rows)]), contexts, 0.25)


def test_padding_has_no_influence(ops: Ops) -> None:
    key, value = torch.randn(2, 1, 12, 2, 16)
    query = torch.randn(1, 12, 2, 16)
    before = ops.padded_prefill(query, key, value, torch.tensor([5]), 0.25)[:, 7:]
    for side in (query, key, value):
        side[:, :7] = 1e4
    after = ops.padded_prefill(query, key, value, torch.tensor([5]), 0.25)
    assert torch.equal(after[:, 7:], before)
    assert after.isfinite().all()
