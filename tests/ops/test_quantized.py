"""Caches of 8 bits in every backend: what is written, and attention over it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch

from ops.cases import on_backends
from ops.exact import assert_attends, assert_within
from ops.pool import Pool, extent_pool, paged_pool
from ops.test_windows import expected
from pagedbench.ops import reference
from pagedbench.ops.accuracy import bounded_attention
from pagedbench.ops.quantized import dequantized, quantized, scales_of

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.interface import Ops

DTYPES = [torch.float32, torch.bfloat16]


def quantized_pool(pool: Pool) -> Pool:
    """The same tokens in 8 bits. Slots of nobody have the scale NaN; `keys`, `values` are what is read."""
    caches = [quantized(cache) for cache in (pool.key_cache, pool.value_cache)]
    keys, values = ([dequantized(quantized(own)) for own in side] for side in (pool.keys, pool.values))
    return replace(pool, key_cache=caches[0], value_cache=caches[1], keys=keys, values=values)


def written(ops: Ops, x: Tensor) -> Tensor:
    cache = torch.zeros((len(x), x.shape[1], x.shape[2] + 4), dtype=torch.int8)
    ops.write_kv(x, x, cache, cache.clone(), torch.arange(len(x)))
    return cache


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_are_wrong_by_half_a_scale_at_most(dtype: torch.dtype) -> None:
    x = torch.randn(50, 3, 64).to(dtype) * torch.logspace(-30, 30, 50)[:, None, None].to(dtype)
    stored = quantized(x)
    scales = scales_of(stored)
    assert torch.equal(scales, x.float().abs().amax(dim=-1) / 127)
    assert stored[..., :-4].abs().amax() == 127
    # Beside the half, what float32 rounds: of the quotient, of the product, and of the scale itself.
    bound = scales.double() * (0.5 + 127 * 3 * torch.finfo(torch.float32).eps)
    assert ((dequantized(stored).double() - x.double()).abs() <= bound[..., None]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [4, 20, 64])
def test_every_backend_stores_the_same_bits(ops: Ops, dtype: torch.dtype, head_dim: int) -> None:
    x = (torch.randn(9, 5, head_dim) * torch.logspace(-9, 9, 9)[:, None, None]).to(dtype)
    x[3, 1] = 0.0
    x[4, 2] = torch.tensor([127.0, 0.5, 1.5, -2.5]).repeat(head_dim // 4)  # ties, at a scale of 1
    cache = written(ops, x)
    assert torch.equal(cache, quantized(x))
    assert cache[4, 2, :4].tolist() == [127, 0, 2, -2]
    assert (scales_of(cache)[3, 1], cache[3, 1].any()) == (0.0, False)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_read_as_nan(ops: Ops, bad: float) -> None:
    x = torch.randn(2, 1, 16)
    x[1, 0, 5] = bad
    cache = written(ops, x)
    assert dequantized(cache)[1].isnan().all()
    assert dequantized(cache)[0].isfinite().all()


def test_subnormal_scales_do_not_overflow(ops: Ops) -> None:
    x = torch.full((1, 1, 8), 190.0) * torch.tensor(1e-45)
    assert written(ops, x)[0, 0, :8].tolist() == [127] * 8


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotated_keys_are_rounded_before_they_are_quantized(ops: Ops, dtype: torch.dtype) -> None:
    query, key, value = (torch.randn(6, heads, 16).to(dtype) for heads in (4, 2, 2))
    caches = [torch.zeros(8, 2, 20, dtype=torch.int8) for _ in range(2)]
    slots, angles = torch.tensor([3, -1, 0, 7, -1, 5]), torch.randn(6, 8)
    ops.rotate_and_write_kv(query, key, value, *caches, slots, angles.cos(), angles.sin())
    expected = [torch.zeros(8, 2, 20, dtype=torch.int8) for _ in range(2)]
    reference.write_kv(key, value, *expected, slots)  # `key` was turned in place
    assert all(torch.equal(one, other) for one, other in zip(caches, expected, strict=True))


@pytest.mark.parametrize(
    ("ops", "block_size", "head_dim", "group_size", "dtype"),
    on_backends(product([0, 1, 16], [8, 64, 80], [1, 3], DTYPES), 8),
    indirect=["ops"],
)
def test_decode(ops: Ops, block_size: int, head_dim: int, group_size: int, dtype: torch.dtype) -> None:
    lengths, scale = [1, 17, 70], head_dim**-0.5
    if block_size:
        pool = quantized_pool(paged_pool(lengths, block_size, 2, head_dim, dtype))
    else:
        pool = quantized_pool(extent_pool(lengths, 2, head_dim, dtype))
    query = torch.randn(len(lengths), 2 * group_size, head_dim).to(dtype)
    out = ops.attend_decode(
        query, pool.key_cache, pool.value_cache, pool.addresses, pool.context_lens, scale
    )
    own = [(query[i : i + 1], pool.keys[i], pool.values[i]) for i in range(len(lengths))]
    assert_attends(out, own, scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("group_size", "head_dim"), [(1, 8), (3, 64), (2, 80)])
def test_prefill(ops: Ops, head_dim: int, group_size: int, dtype: torch.dtype) -> None:
    lengths, scale = [5, 90], head_dim**-0.5
    pool = quantized_pool(paged_pool(lengths, 4, 2, head_dim, dtype))
    starts = torch.tensor([0, 5, 45], dtype=torch.int32)  # the second one's beginning is cached
    query = torch.randn(45, 2 * group_size, head_dim).to(dtype)
    caches = (pool.key_cache, pool.value_cache)
    out = ops.attend_prefill(query, *caches, pool.addresses, starts, pool.context_lens, scale)
    rows = query.split([5, 40])
    assert_attends(out, list(zip(rows, pool.keys, pool.values, strict=True)), scale)


@pytest.mark.parametrize(
    ("ops", "block_size", "window", "sinks", "group_size", "dtype"),
    on_backends(
        [
            (*place, group_size, dtype)
            for place, group_size, dtype in product([(0, None, 0), (8, 9, 3)], [1, 2], DTYPES)
        ],
        4,
    ),
    indirect=["ops"],
)
def test_scales_precede_caps_sink_logits_and_windows(
    ops: Ops, block_size: int, window: int | None, sinks: int, group_size: int, dtype: torch.dtype
) -> None:
    lengths, num_rows, head_dim = [1, 17, 130], [1, 17, 40], 24
    of_blocks = paged_pool(lengths, block_size, 2, head_dim, dtype) if block_size else None
    pool = quantized_pool(of_blocks or extent_pool(lengths, 2, head_dim, dtype))
    sink_logits = torch.tensor([3.0, -2.0, 0.5, 1.0])[: 2 * group_size]
    scores = (0.5, window, sinks, 1.5, sink_logits)
    where = (pool.key_cache, pool.value_cache, pool.addresses)

    query = torch.randn(len(lengths), 2 * group_size, head_dim).to(dtype)
    out = ops.attend_decode(query, *where, pool.context_lens, *scores)
    seen = expected(pool, query, [1] * len(lengths), window, sinks)
    assert_attends(out, seen, 0.5, 1.5, sink_logits)

    query, starts = torch.randn(58, 2 * group_size, head_dim).to(dtype), torch.tensor([0, 1, 18, 58]).int()
    out = ops.attend_prefill(query, *where, starts, pool.context_lens, *scores)
    assert_attends(out, expected(pool, query, num_rows, window, sinks), 0.5, 1.5, sink_logits)


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_tokens_with_scale_zero(ops: Ops, dtype: torch.dtype) -> None:
    """A window hides them; their scores are -inf, whatever their scale."""
    pool = paged_pool([40], 4, 2, 16, dtype)
    pool.key_cache[pool.key_cache.isfinite()] = 0.0
    quantized_to = quantized_pool(pool)
    query = torch.randn(40, 2, 16).to(dtype)
    caches, starts = (quantized_to.key_cache, quantized_to.value_cache), torch.tensor([0, 40]).int()
    out = ops.attend_prefill(query, *caches, pool.addresses, starts, pool.context_lens, 0.25, 3)
    assert out.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_padded_prompts(ops: Ops, dtype: torch.dtype) -> None:
    lengths, padded_len = torch.tensor([3, 7]), 7
    query, key, value = (torch.randn(2, padded_len, heads, 16).to(dtype) for heads in (4, 2, 2))
    out = ops.padded_prefill(query, quantized(key), quantized(value), lengths, 0.25)
    for i, length in enumerate(lengths.tolist()):
        own = [side[i, padded_len - length :] for side in (query, key, value)]
        read = [dequantized(quantized(side)) for side in own[1:]]
        assert_attends(out[i, padded_len - length :], [(own[0], *read)], 0.25)


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_is_wrong_by_what_the_scales_allow(ops: Ops, dtype: torch.dtype) -> None:
    """Against keys and values that were never quantized."""
    lengths, scale = [64, 200], 8.0**-0.5
    pool = paged_pool(lengths, 16, 2, 8, dtype)
    stored = quantized_pool(pool)
    query = torch.randn(2, 4, 8).to(dtype)
    caches = (stored.key_cache, stored.value_cache)
    out = ops.attend_decode(query, *caches, pool.addresses, pool.context_lens, scale)
    for i in range(2):
        own = (query[i : i + 1], pool.keys[i], pool.values[i])
        bound = bounded_attention(*own, scale, is_quantized=True)
        assert_within(out[i : i + 1], bound)
        assert bound.share(out[i : i + 1]) > 1e-3  # not so wide that anything would pass
        if dtype == torch.float32:
            assert bounded_attention(*own, scale).share(out[i : i + 1]) > 1  # without the scales


def test_copies_move_the_scales(ops: Ops) -> None:
    cache = quantized(torch.randn(8, 2, 16))
    before = dequantized(cache).clone()
    ops.copy_runs([cache], [cache], torch.tensor([[0, 4, 2]]))
    assert torch.equal(dequantized(cache)[4:6], before[:2])
