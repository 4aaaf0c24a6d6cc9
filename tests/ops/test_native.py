"""What only the native kernels promise: one result for all placements and threads, and clear errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from ops.pool import paged_pool
from pagedbench.ops.addresses import BlockTables, Extents

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from pagedbench.ops.interface import Ops


@pytest.fixture
def decode() -> dict[str, Any]:
    """The arguments of `attend` that run; each test of an error spoils one."""
    pool = paged_pool([20, 7, 150], 16, 4, 16, torch.float32)
    return {
        "query": torch.randn(3, 8, 16),
        "key_cache": pool.key_cache,
        "value_cache": pool.value_cache,
        "block_tables": pool.block_tables,
        "context_lens": pool.context_lens,
        "block_size": 16,
        "scale": 0.25,
    }


def attend(native: Ops, block_tables: Tensor, block_size: int, **arguments: Any) -> Tensor:
    return native.attend_decode(addresses=BlockTables(block_tables, block_size), **arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_do_not_change_the_result(native: Ops, decode: dict[str, Any], dtype: torch.dtype) -> None:
    for name in ("query", "key_cache", "value_cache"):
        decode[name] = decode[name].to(dtype)
    one = attend(native, **decode)
    for num_threads in (2, 5):
        torch.set_num_threads(num_threads)
        assert torch.equal(attend(native, **decode), one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_do_not_change_prompts(native: Ops, dtype: torch.dtype) -> None:
    pool, starts = paged_pool([300, 20, 700], 16, 2, 16, dtype), torch.tensor([0, 300, 320, 1020]).int()
    query = torch.randn(1020, 4, 16).to(dtype)
    own = (query, pool.key_cache, pool.value_cache, pool.addresses, starts, pool.context_lens, 0.2)
    one = native.attend_prefill(*own)
    for num_threads in (2, 5):
        torch.set_num_threads(num_threads)
        assert torch.equal(native.attend_prefill(*own), one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_do_not_change_norms(native: Ops, dtype: torch.dtype) -> None:
    hidden, delta, (weight, bias) = *torch.randn(2, 300, 96).to(dtype), torch.randn(2, 96).to(dtype)
    one = native.layer_norm(hidden.clone(), delta, weight, bias, 1e-5)
    one_rms = native.rms_norm(hidden.clone(), delta, weight, 1e-5)
    for num_threads in (2, 5):
        torch.set_num_threads(num_threads)
        assert torch.equal(native.layer_norm(hidden.clone(), delta, weight, bias, 1e-5), one)
        assert torch.equal(native.rms_norm(hidden.clone(), delta, weight, 1e-5), one_rms)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block_size", [1, 5, 16, 32, 100])
def test_paged_equals_contiguous_bit_for_bit(native: Ops, block_size: int, dtype: torch.dtype) -> None:
    lengths = [1, 3, 63, 64, 65, 97, 200, 600]
    pool = paged_pool(lengths, block_size, 2, 24, dtype)
    query = torch.randn(len(lengths), 4, 24).to(dtype)
    caches, lens = (pool.key_cache, pool.value_cache), pool.context_lens
    paged = native.attend_decode(query, *caches, pool.addresses, lens, 0.2)
    starts = Extents(torch.tensor([0, *lengths]).cumsum(0)[:-1])
    keys, values = torch.cat(pool.keys), torch.cat(pool.values)
    assert torch.equal(native.attend_decode(query, keys, values, starts, lens, 0.2), paged)


@pytest.mark.parametrize(
    ("name", "spoil", "error", "message"),
    [
        ("query", lambda x: x.double(), TypeError, "query must be float32 or bfloat16"),
        ("query", lambda x: x.bfloat16(), TypeError, "query must have the dtype of key_cache"),
        ("query", lambda x: x[0], ValueError, "query must have three dimensions"),
        ("query", lambda x: x[:, :, :8].contiguous(), ValueError, "same head_dim"),
        ("query", lambda x: x[:, :6].contiguous(), ValueError, "multiple of the number of KV heads"),
        ("query", lambda x: x.transpose(1, 2), ValueError, "heads of a token must be contiguous in query"),
        ("query", lambda x: x[:, ::2], ValueError, "heads of a token must be contiguous in query"),
        ("query", lambda x: x[:2], ValueError, r"context_lens must be contiguous, of shape \[2\]"),
        ("value_cache", lambda x: x[1:], ValueError, "must have the same shape"),
        ("key_cache", lambda x: x.half(), TypeError, "key_cache must be float32 or bfloat16"),
        ("block_tables", lambda x: x.long(), TypeError, "block_tables must be int32"),
        ("block_tables", lambda x: x[0], ValueError, "block_tables must have two dimensions"),
        ("block_tables", lambda x: x.t().contiguous().t(), ValueError, "block_tables must be contiguous"),
        ("block_tables", lambda x: x + 100, ValueError, "lies outside the cache"),
        ("block_tables", lambda x: x - 100, ValueError, "lies outside the cache"),
        ("context_lens", lambda x: x.long(), TypeError, "context_lens must be int32"),
        ("context_lens", lambda x: x[:2], ValueError, "context_lens must be contiguous"),
        ("context_lens", lambda x: x - 50, ValueError, "does not fit the block table"),
        ("context_lens", lambda x: x + 500, ValueError, "does not fit the block table"),
        ("block_size", lambda x: 0, ValueError, "block_size must be at least 1"),
    ],
)
def test_decode_errors(
    native: Ops,
    decode: dict[str, Any],
    name: str,
    spoil: Callable[[Any], Any],
    error: type[Exception],
    message: str,
) -> None:
    decode[name] = spoil(decode[name])
    with pytest.raises(error, match=message):
        attend(native, **decode)


@pytest.mark.parametrize(("start", "context_len"), [(-1, 3), (8, 3), (2**62, 3), (0, -1)])
def test_extents_outside_the_cache(native: Ops, start: int, context_len: int) -> None:
    cache = torch.randn(10, 1, 8)
    lens = torch.tensor([context_len], dtype=torch.int32)
    extents = Extents(torch.tensor([start]))
    with pytest.raises(ValueError, match="extent of sequence 0 lies outside the cache"):
        native.attend_decode(torch.randn(1, 1, 8), cache, cache, extents, lens, 1.0)


@pytest.mark.parametrize(
    ("key_shape", "slots", "error", "message"),
    [
        ((2, 1, 8), [0, 10], ValueError, "slot 10 lies outside the cache, which has 10 slots"),
        ((2, 1, 8), [0, -2], ValueError, "slot -2 lies outside the cache"),
        ((2, 1, 8), [0], ValueError, "slots must be contiguous"),
        ((2, 2, 8), [0, 1], ValueError, "same number of heads"),
        ((2, 1, 4), [0, 1], ValueError, "same number of heads"),
        ((2, 1, 8), [0.0, 1.0], TypeError, "slots must be int64"),
    ],
)
def test_write_errors_write_nothing(
    native: Ops, key_shape: tuple[int, ...], slots: list[int], error: type[Exception], message: str
) -> None:
    cache = torch.zeros(10, 1, 8)
    key = torch.ones(key_shape)
    with pytest.raises(error, match=message):
        native.write_kv(key, key, cache, cache, torch.tensor(slots))
    assert not cache.any()


def test_write_needs_as_many_values_as_keys(native: Ops) -> None:
    cache = torch.zeros(10, 1, 8)
    with pytest.raises(ValueError, match="key and value must have the same shape"):
        native.write_kv(torch.ones(2, 1, 8), torch.ones(3, 1, 8), cache, cache, torch.tensor([0, 1]))
