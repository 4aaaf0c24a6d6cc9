"""Soft caps and sink logits, by every backend, with and without windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from ops.cases import on_backends
from ops.exact import assert_attends
from ops.pool import extent_pool, paged_pool
from ops.test_triton import split_decode
from ops.test_windows import expected

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.interface import Ops

LENGTHS = [1, 2, 17, 40, 130]
SCALE = 0.5
SINKS = torch.tensor([3.0, -2.0, 0.5, 40.0])
"""Of four heads: above most scores, below, among them, and so high that nothing else counts."""

SCORES = [(1.5, None), (None, SINKS), (1.5, SINKS)]
"""A cap that most scores feel, a score more, and both: the latter is not capped."""

PLACES = [(0, 2, torch.float32), (8, 4, torch.bfloat16), (16, 2, torch.float32)]
"""Block sizes, of which 0 means extents; KV heads; and dtypes."""

HEAD_DIM = 24
CASES = [(*SCORES[0], None, 0), (*SCORES[1], 9, 3), (*SCORES[2], None, 0), (*SCORES[2], 9, 3)]
"""Scores, and windows with sinks of tokens."""

PARAMETERS = ("ops", "block_size", "num_kv_heads", "dtype", "softcap", "sink_logits", "window", "sinks")
EVERYWHERE = on_backends([(*place, *case) for place in PLACES for case in CASES], 5)


def pool_of(lengths: list[int], block_size: int, num_kv_heads: int, dtype: torch.dtype):
    if block_size:
        return paged_pool(lengths, block_size, num_kv_heads, HEAD_DIM, dtype)
    return extent_pool(lengths, num_kv_heads, HEAD_DIM, dtype)


@pytest.mark.parametrize(PARAMETERS, EVERYWHERE, indirect=["ops"])
def test_decode(ops: Ops, block_size, num_kv_heads, dtype, softcap, sink_logits, window, sinks) -> None:
    pool = pool_of(LENGTHS, block_size, num_kv_heads, dtype)
    query = torch.randn(len(LENGTHS), 4, HEAD_DIM).to(dtype)
    where = (pool.key_cache, pool.value_cache, pool.addresses, pool.context_lens)
    out = ops.attend_decode(query, *where, SCALE, window, sinks, softcap, sink_logits)
    seen = expected(pool, query, [1] * len(LENGTHS), window, sinks)
    assert_attends(out, seen, SCALE, softcap, sink_logits)


@pytest.mark.parametrize(PARAMETERS, EVERYWHERE, indirect=["ops"])
def test_prefill(ops: Ops, block_size, num_kv_heads, dtype, softcap, sink_logits, window, sinks) -> None:
    """Whole prompts, and the ends of prompts."""
    pool, num_rows = pool_of(LENGTHS, block_size, num_kv_heads, dtype), [1, 2, 17, 3, 40]
    query = torch.randn(sum(num_rows), 4, HEAD_DIM).to(dtype)
    where = (pool.key_cache, pool.value_cache, pool.addresses)
    starts = torch.tensor([0, *num_rows]).cumsum(0).int()
    scores = (SCALE, window, sinks, softcap, sink_logits)
    out = ops.attend_prefill(query, *where, starts, pool.context_lens, *scores)
    assert_attends(out, expected(pool, query, num_rows, window, sinks), SCALE, softcap, sink_logits)


@pytest.mark.parametrize(("softcap", "sink_logits"), SCORES)
def test_padded_prefill(ops: Ops, softcap, sink_logits) -> None:
    lengths = [12, 1, 7]
    query, (key, value) = torch.randn(3, 12, 4, HEAD_DIM), torch.randn(2, 3, 12, 2, HEAD_DIM)
    out = ops.padded_prefill(query, key, value, torch.tensor(lengths), SCALE, None, 0, softcap, sink_logits)
    assert out.isfinite().all()
    own = [slice(12 - length, 12) for length in lengths]
    contexts = [(query[i, rows], key[i, rows], value[i, rows]) for i, rows in enumerate(own)]
    rows = torch.cat([out[i, rows] for i, rows in enumerate(own)])
    assert_attends(rows, contexts, SCALE, softcap, sink_logits)


@pytest.mark.parametrize("backend", ["reference", "native"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_context_in_parts_has_one_sink(backend, dtype, request) -> None:
    """The native kernels cut contexts after 512 tokens; a sink that counts twice would show."""
    ops = request.getfixturevalue("native") if backend == "native" else _reference()
    pool = paged_pool([0, 511, 1300], 16, 2, HEAD_DIM, dtype)
    query = torch.randn(3, 4, HEAD_DIM).to(dtype)
    sinks = torch.tensor([7.0, 6.0, 8.0, 9.0])  # about as heavy as all tokens together
    where = (pool.key_cache, pool.value_cache, pool.addresses, pool.context_lens)
    out = ops.attend_decode(query, *where, 0.1, sink_logits=sinks)
    assert torch.equal(out[0], torch.zeros_like(out[0])), "no token, no value"
    assert_attends(out[1:], expected(pool, query, [1, 1, 1], None, 0)[1:], 0.1, None, sinks)


def _reference() -> Ops:
    from pagedbench.ops.select import select_ops

    return select_ops("cpu", "reference")


@pytest.mark.usefixtures("triton")
def test_pieces_of_a_context_have_one_sink() -> None:
    lengths = [0, 1, 257, 513]
    pool = paged_pool(lengths, 16, 1, 64, torch.float32)
    query, sinks = torch.randn(len(lengths), 2, 64), torch.tensor([5.0, 6.0])
    out = split_decode(query, pool, 0.125, 2, 2.0, sinks)
    assert torch.equal(out[0], torch.zeros_like(out[0]))
    seen = expected(pool, query, [1] * len(lengths), None, 0)
    assert_attends(out[1:], seen[1:], 0.125, 2.0, sinks)


@pytest.mark.parametrize(("head_dim", "group_size"), [(256, 2), (96, 4), (8, 1), (16, 3), (80, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_of_current_models(native: Ops, head_dim: int, group_size: int, dtype: torch.dtype) -> None:
    """Gemma's 256, Phi-3's 96, and the small ones of tests."""
    pool, num_rows = paged_pool([3, 70], 16, 2, head_dim, dtype), [3, 5]
    sinks = torch.randn(2 * group_size)
    query = torch.randn(8, 2 * group_size, head_dim).to(dtype)
    starts, where = torch.tensor([0, 3, 8]).int(), (pool.key_cache, pool.value_cache, pool.addresses)
    scale = head_dim**-0.5
    for cap in (None, 2.0):
        scores = (scale, None, 0, cap, sinks)
        out = native.attend_prefill(query, *where, starts, pool.context_lens, *scores)
        assert_attends(out, expected(pool, query, num_rows, None, 0), scale, cap, sinks)
        last = query[[2, 7]]
        out = native.attend_decode(last, *where, pool.context_lens, *scores)
        assert_attends(out, expected(pool, last, [1, 1], None, 0), scale, cap, sinks)


@pytest.mark.parametrize(
    ("softcap", "sink_logits", "message"),
    [
        (0.0, None, "softcap must be above 0"),
        (float("nan"), None, "softcap must be above 0"),
        (None, torch.zeros(3), r"sink_logits must be contiguous, of shape \[4\]"),
        (None, torch.zeros(4).double(), "sink_logits must be float32"),
    ],
)
def test_native_errors(native: Ops, softcap, sink_logits: Tensor | None, message: str) -> None:
    pool = paged_pool([5], 8, 2, HEAD_DIM, torch.float32)
    where = (pool.key_cache, pool.value_cache, pool.addresses, pool.context_lens)
    with pytest.raises((ValueError, TypeError), match=message):
        native.attend_decode(torch.randn(1, 4, HEAD_DIM), *where, SCALE, None, 0, softcap, sink_logits)
