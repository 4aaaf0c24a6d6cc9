"""Decode attention of every backend."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.cases import on_backends
from ops.exact import assert_attends
from ops.pool import Pool, extent_pool, paged_pool
from pagedbench.ops.addresses import BlockTables, Extents

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.interface import Ops

DTYPES = [torch.float32, torch.bfloat16]


def edges(block_size: int) -> list[int]:
    """Lengths at and around the edges of blocks, and of the native kernels' tiles of 64."""
    return sorted(
        {1, 2, max(block_size - 1, 1), block_size, block_size + 1, 2 * block_size, 63, 64, 65, 130}
    )


def contexts(query: Tensor, pool: Pool) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [
        (query[i : i + 1], key, value)
        for i, (key, value) in enumerate(zip(pool.keys, pool.values, strict=True))
    ]


def attend_pool(ops: Ops, query: Tensor, pool: Pool, scale: float) -> Tensor:
    return ops.attend_decode(
        query, pool.key_cache, pool.value_cache, pool.addresses, pool.context_lens, scale
    )


@pytest.mark.parametrize(
    ("ops", "block_size", "dtype"), on_backends(product([1, 8, 16, 32], DTYPES), 4), indirect=["ops"]
)
def test_paged_at_block_edges(ops: Ops, block_size: int, dtype: torch.dtype) -> None:
    lengths = edges(block_size)
    pool = paged_pool(lengths, block_size, 2, 16, dtype)
    query = torch.randn(len(lengths), 4, 16).to(dtype)
    assert_attends(attend_pool(ops, query, pool, 0.25), contexts(query, pool), 0.25)


@pytest.mark.parametrize("dtype", DTYPES)
def test_contiguous_at_edges(ops: Ops, dtype: torch.dtype) -> None:
    lengths = edges(16)
    pool = extent_pool(lengths, 2, 16, dtype)
    query = torch.randn(len(lengths), 4, 16).to(dtype)
    assert_attends(attend_pool(ops, query, pool, 0.25), contexts(query, pool), 0.25)


@pytest.mark.parametrize(
    ("ops", "head_dim", "group_size", "dtype"),
    on_backends(product([8, 64, 80, 128], [1, 2, 4, 8], DTYPES), 8),
    indirect=["ops"],
)
def test_head_shapes(ops: Ops, head_dim: int, group_size: int, dtype: torch.dtype) -> None:
    scale = head_dim**-0.5
    query = torch.randn(2, 3 * group_size, head_dim).to(dtype)
    pool = paged_pool([19, 70], 16, 3, head_dim, dtype)
    assert_attends(attend_pool(ops, query, pool, scale), contexts(query, pool), scale)
    pool = extent_pool([19, 70], 3, head_dim, dtype)
    assert_attends(attend_pool(ops, query, pool, scale), contexts(query, pool), scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_long_contexts(ops: Ops, dtype: torch.dtype) -> None:
    """At and around the edges of the parts of 512 that the native kernel puts together."""
    lengths = [511, 512, 513, 3, 1030]
    pool = paged_pool(lengths, 16, 2, 32, dtype)
    query = (torch.randn(len(lengths), 4, 32) * 3).to(dtype)
    assert_attends(attend_pool(ops, query, pool, 0.25), contexts(query, pool), 0.25)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=4),
    block_size=st.integers(1, 40),
    num_kv_heads=st.integers(1, 5),
    group_size=st.integers(1, 3),
    head_dim=st.sampled_from([1, 3, 17, 256]),
)
def test_any_shape(
    ops: Ops, lengths: list[int], block_size: int, num_kv_heads: int, group_size: int, head_dim: int
) -> None:
    torch.manual_seed(0)
    scale = head_dim**-0.5
    pool = paged_pool(lengths, block_size, num_kv_heads, head_dim, torch.float32)
    query = torch.randn(len(lengths), num_kv_heads * group_size, head_dim)
    assert_attends(attend_pool(ops, query, pool, scale), contexts(query, pool), scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_scores_stay_finite(ops: Ops, dtype: torch.dtype) -> None:
    """Scores of several hundreds: exp would overflow without the maximum taken off."""
    pool = paged_pool([100, 70, 33], 16, 4, 64, dtype)
    query = (torch.randn(3, 4, 64) * 40).to(dtype)
    assert_attends(attend_pool(ops, query, pool, 1.0), contexts(query, pool), 1.0)


def test_float64_reference() -> None:
    from pagedbench.ops import reference

    pool = paged_pool([5, 40], 8, 2, 16, torch.float64)
    query = torch.randn(2, 4, 16, dtype=torch.float64)
    assert_attends(attend_pool(reference, query, pool, 0.25), contexts(query, pool), 0.25)


def test_empty_context_gives_zeros(ops: Ops) -> None:
    pool = paged_pool([0, 4], 4, 1, 8, torch.float32)
    out = attend_pool(ops, torch.randn(2, 2, 8), pool, 1.0)
    assert torch.equal(out[0], torch.zeros(2, 8))
    assert out[1].abs().min() > 0


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_nothing_to_read(ops: Ops, lengths: list[int]) -> None:
    cache = torch.randn(8, 1, 8)
    lens = torch.tensor(lengths, dtype=torch.int32)
    query = torch.randn(len(lengths), 1, 8)
    tables = BlockTables(torch.zeros(len(lengths), 1, dtype=torch.int32), 4)
    starts = Extents(torch.zeros(len(lengths), dtype=torch.int64))
    for addresses in (tables, starts):
        out = ops.attend_decode(query, cache, cache, addresses, lens, 1.0)
        assert torch.equal(out, torch.zeros_like(query))


def test_nan_of_the_context_reaches_the_output(ops: Ops) -> None:
    pool = extent_pool([10, 10], 1, 8, torch.float32)
    pool.value_cache[pool.extent_starts[0] + 3] = float("nan")
    out = attend_pool(ops, torch.randn(2, 1, 8), pool, 1.0)
    assert out[0].isnan().all()
    assert out[1].isfinite().all()


@pytest.mark.parametrize("position", [0, 600, 1099])
def test_nan_in_any_part_reaches_the_output(ops: Ops, position: int) -> None:
    pool = extent_pool([1100, 1100], 1, 8, torch.float32)
    pool.key_cache[pool.extent_starts[0] + position] = float("nan")
    out = attend_pool(ops, torch.randn(2, 1, 8), pool, 1.0)
    assert out[0].isnan().all()
    assert out[1].isfinite().all()


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7FC00001, 0x7FFFFFFF, 0x7F800001])
def test_every_nan_of_a_key_reaches_the_output(ops: Ops, bits: int) -> None:
    """Whatever its payload: memory that was never written may hold any."""
    pool = extent_pool([10, 10], 1, 8, torch.float32)
    nan = torch.tensor([bits], dtype=torch.uint32).view(torch.float32)
    pool.key_cache[pool.extent_starts[0] + 3, 0, 2:3] = nan
    out = attend_pool(ops, torch.randn(2, 1, 8), pool, 1.0)
    assert out[0].isnan().all()
    assert out[1].isfinite().all()


def test_query_and_cache_may_be_strided_by_token(ops: Ops) -> None:
    """Views into a fused projection, and into a cache of all layers."""
    pool = extent_pool([30, 9], 2, 16, torch.float32)
    query = torch.randn(2, 4, 16)
    wide_query = torch.randn(2, 8, 16)
    wide_query[:, :4] = query
    layers = torch.randn(len(pool.key_cache), 2, 2, 16)
    layers[:, 0], layers[:, 1] = pool.key_cache, pool.value_cache
    out = ops.attend_decode(
        wide_query[:, :4], layers[:, 0], layers[:, 1], pool.addresses, pool.context_lens, 0.25
    )
    assert_attends(out, contexts(query, pool), 0.25)
