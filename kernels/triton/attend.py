"""Shared by all attention kernels: finding slots, reading a tile, folding it into a running softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from pagedbench.kernels.triton.arithmetic import add_product, narrow
from pagedbench.ops.addresses import BlockTables

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.addresses import Addresses

LOG2_E = 1.4426950408889634
"""Scores are multiplied by this, so that kernels may take powers of two."""


def scales_of(scale: float, softcap: float | None) -> tuple[float, float | None]:
    """The factors of products before and after the soft cap, for the kernels."""
    return (scale * LOG2_E, None) if softcap is None else (scale / softcap, softcap * LOG2_E)


def operands_of(addresses: Addresses) -> tuple[Tensor, int, Tensor | None]:
    """Block tables, block size and first positions; or the starts of extents, 0 and None."""
    if isinstance(addresses, BlockTables):
        return addresses.tables, addresses.block_size, addresses.first_positions
    return addresses.starts, 0, None


def scales_seen(caches: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Caches of 8 bits as float32 tensors, from which their scales can be read; None for other caches."""
    if caches[0].dtype != torch.int8:
        return None, None
    return caches[0].view(torch.float32), caches[1].view(torch.float32)


@triton.jit
def slots_of(
    addresses: tl.tensor,
    addresses_stride: tl.tensor,
    first_positions: tl.tensor | None,
    sequence: tl.tensor,
    tokens: tl.tensor,
    last: tl.tensor,
    gap: tl.tensor | None,
    sinks: tl.tensor,
    block_size: tl.constexpr,
) -> tl.tensor:
    """The slots of a sequence's tokens before `last`.  # int64 [tile]

    Tokens are numbered without the `gap`: the number of positions after the sinks that are outside all
    windows. See `operands_of` for the addresses.
    """
    positions = tokens
    if gap is not None:
        positions = tokens + tl.where(tokens >= sinks, gap, 0)
    if block_size == 0:
        return tl.load(addresses + sequence) + positions
    else:
        columns = positions // block_size
        if first_positions is not None:  # the gap's columns are missing
            num_missing = tl.load(first_positions + sequence) // block_size - tl.cdiv(sinks, block_size)
            columns -= tl.where(tokens >= sinks, tl.maximum(num_missing, 0), 0)
        entries = addresses + sequence.to(tl.int64) * addresses_stride + columns
        blocks = tl.load(entries, mask=tokens < last, other=0).to(tl.int64)
        return blocks * block_size + positions % block_size


@triton.jit
def read_tile(
    caches: tl.tuple,  # of keys and of values
    strides: tl.tuple,  # between their slots
    slots: tl.tensor,  # [tile]
    is_read: tl.tensor,  # [tile]
    kv_head: tl.tensor,
    dtype: tl.constexpr,  # that elements of 8 bits are widened to; it represents them exactly
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    row_len: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """One head's keys and values in some slots; zeros if not read, because foreign slots may contain NaN.

    [tile, head_pad] each. A head takes `row_len` elements of a cache.
    """
    lanes = tl.arange(0, head_pad)[None, :]
    mask = is_read[:, None] & (lanes < head_dim)
    lanes += kv_head * row_len
    key = tl.load(caches[0] + slots[:, None] * strides[0] + lanes, mask=mask, other=0)
    value = tl.load(caches[1] + slots[:, None] * strides[1] + lanes, mask=mask, other=0)
    if caches[0].dtype.element_ty == tl.int8:
        key, value = narrow(key.to(tl.float32), dtype), narrow(value.to(tl.float32), dtype)
    return key, value


@triton.jit
def read_scales(
    scales: tl.tensor,  # a cache of 8 bits, seen as float32
    stride: tl.tensor,  # between the cache's slots
    slots: tl.tensor,  # [tile]
    is_read: tl.tensor,  # [tile]
    kv_head: tl.tensor,
    row_len: tl.constexpr,
) -> tl.tensor:
    """The scales of one head in some slots: the last four bytes of its rows.  # float32 [tile]"""
    size: tl.constexpr = 4
    last = (kv_head + 1) * (row_len // size) - 1
    return tl.load(scales + slots * (stride // size) + last, mask=is_read, other=0.0)


@triton.jit
def rows_at(
    tensor: tl.tensor, stride: tl.tensor, tokens: tl.tensor, heads: tl.tensor, head_dim: tl.constexpr
) -> tl.tensor:
    """Pointers to rows, each a head of a token, in [num_tokens, num_heads, head_dim].  # [rows, 1]"""
    return tensor + tokens[:, None].to(tl.int64) * stride + heads[:, None] * head_dim


@triton.jit
def nothing_folded(
    sink_logits: tl.tensor | None,  # float32 [num_heads]
    heads: tl.tensor,  # [rows]
    is_head: tl.tensor,  # [rows]
    head_pad: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """The largest score, sum of weights and weighted values of rows before any token.

    A sink logit is a score whose value is zero.
    """
    if sink_logits is None:
        peak = tl.full(heads.shape, float("-inf"), dtype=tl.float32)
        total = tl.zeros(heads.shape, dtype=tl.float32)
    else:
        peak = tl.load(sink_logits + heads, mask=is_head, other=0.0) * 1.4426950408889634  # log2 of e
        total = tl.full(heads.shape, 1.0, dtype=tl.float32)
    return peak, total, tl.zeros((heads.shape[0], head_pad), dtype=tl.float32)


@triton.jit
def _tanh(x: tl.tensor) -> tl.tensor:
    e = tl.exp2(tl.abs(x) * -2.8853900817779268)  # exp(-2 |x|)
    result = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0.0, -result, result)


@triton.jit
def fold(
    query: tl.tensor,  # [rows, head_pad]
    caches: tl.tuple,  # of keys and of values
    key_scales: tl.tensor | None,  # caches of 8 bits, seen as float32; None for others
    value_scales: tl.tensor | None,
    strides: tl.tuple,  # between the slots of a cache
    slots: tl.tensor,  # [tile]
    is_read: tl.tensor,  # [tile]
    kv_head: tl.tensor,
    is_seen: tl.tensor | None,  # [rows or 1, tile]; None: every row sees the whole tile
    scale: tl.tensor,
    softcap: tl.tensor | None,
    peak: tl.tensor,  # [rows]
    total: tl.tensor,  # [rows]
    sums: tl.tensor,  # [rows, head_pad]
    head_dim: tl.constexpr,
    row_len: tl.constexpr,
    use_dot: tl.constexpr,
    may_see_nothing: tl.constexpr = False,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Fold a tile into each row's largest score, sum of weights and weighted values, all in float32.

    Every row must attend to a token of the first tile, unless `may_see_nothing`. `use_dot` needs at least
    16 rows (tensor cores).
    """
    key, value = read_tile(
        caches, strides, slots, is_read, kv_head, query.dtype, head_dim, query.shape[1], row_len
    )  # [tile, head_pad] each
    if use_dot:
        nothing = tl.zeros((query.shape[0], key.shape[0]), dtype=tl.float32)
        scores = add_product(nothing, query, tl.trans(key)) * scale  # [rows, tile]
    else:
        pairs = query.to(tl.float32)[:, None, :] * key.to(tl.float32)[None, :, :]
        scores = tl.sum(pairs, axis=2) * scale  # [rows, tile]
    if key_scales is not None:
        scores *= read_scales(key_scales, strides[0], slots, is_read, kv_head, row_len)[None, :]
    if softcap is not None:
        scores = softcap * _tanh(scores)
    if is_seen is not None:
        scores = tl.where(is_seen, scores, float("-inf"))
    new_peak = tl.maximum(peak, tl.max(scores, axis=1))
    base = new_peak  # [rows]
    if may_see_nothing:
        base = tl.where(new_peak == float("-inf"), 0.0, new_peak)  # -inf - -inf is NaN
    weights = tl.exp2(scores - base[:, None])  # [rows, tile]
    shrink = tl.exp2(peak - base)
    total = total * shrink + tl.sum(weights, axis=1)
    sums = sums * shrink[:, None]
    if value_scales is not None:
        weights *= read_scales(value_scales, strides[1], slots, is_read, kv_head, row_len)[None, :]
    if use_dot:
        sums = add_product(sums, narrow(weights, value.dtype), value)
    else:
        sums += tl.sum(weights[:, :, None] * value.to(tl.float32)[None, :, :], axis=1)
    return new_peak, total, sums
