"""Rotates queries and keys by their positions, in place, and writes keys and values: in one launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from pagedbench.kernels.triton.arithmetic import narrow
from pagedbench.kernels.triton.quantize import store_quantized

if TYPE_CHECKING:
    from torch import Tensor

NUM_HEADS = 8
"""Heads of a token that one program rotates."""


@triton.jit
def _rotate(
    pointers: tl.tensor,  # to the first halves of some heads, [heads, half_pad]
    half: tl.constexpr,
    mask: tl.tensor,  # [heads, half_pad]
    cosine: tl.tensor,  # float32 [half_pad]
    sine: tl.tensor,
) -> tuple[tl.tensor, tl.tensor]:
    """Rotate the pairs (i, i + half) in place; returns the stored numbers."""
    dtype: tl.constexpr = pointers.dtype.element_ty
    first = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(pointers + half, mask=mask, other=0.0).to(tl.float32)
    rotated_first = narrow(first * cosine[None, :] - second * sine[None, :], dtype)
    rotated_second = narrow(second * cosine[None, :] + first * sine[None, :], dtype)
    tl.store(pointers, rotated_first, mask=mask)
    tl.store(pointers + half, rotated_second, mask=mask)
    return rotated_first, rotated_second


@triton.jit
def _rotate_and_write_kernel(
    query: tl.tensor,  # [num_tokens, num_query_heads, 2 * half]
    key: tl.tensor,  # [num_tokens, num_kv_heads, 2 * half]
    value: tl.tensor,
    key_cache: tl.tensor,  # [num_slots, num_kv_heads, 2 * half], or of 8 bits
    value_cache: tl.tensor,
    slots: tl.tensor,  # int64 [num_tokens]
    cosine: tl.tensor,  # float32 [num_tokens, half]
    sine: tl.tensor,
    query_stride: tl.tensor,
    key_stride: tl.tensor,
    value_stride: tl.tensor,
    key_cache_stride: tl.tensor,
    value_cache_stride: tl.tensor,
    cosine_stride: tl.tensor,
    sine_stride: tl.tensor,
    num_query_heads: tl.constexpr,
    num_kv_heads: tl.constexpr,
    half: tl.constexpr,
    half_pad: tl.constexpr,
    num_heads: tl.constexpr,
    is_quantized: tl.constexpr,
) -> None:
    """A program is `num_heads` heads of one token: of its queries, keys and values."""
    token = tl.program_id(0).to(tl.int64)
    first_head = tl.program_id(1) * num_heads
    heads = first_head + tl.arange(0, num_heads)[:, None]
    lanes = tl.arange(0, half_pad)
    cosines = tl.load(cosine + token * cosine_stride + lanes, mask=lanes < half, other=0.0)
    sines = tl.load(sine + token * sine_stride + lanes, mask=lanes < half, other=0.0)

    offsets = heads * (2 * half) + lanes[None, :]  # [num_heads, half_pad]
    mask = (heads < num_query_heads) & (lanes[None, :] < half)
    _rotate(query + token * query_stride + offsets, half, mask, cosines, sines)
    if first_head < num_kv_heads:
        slot = tl.load(slots + token)
        mask = (heads < num_kv_heads) & (lanes[None, :] < half)
        first, second = _rotate(key + token * key_stride + offsets, half, mask, cosines, sines)
        is_written = heads < tl.where(slot >= 0, num_kv_heads, 0)  # [num_heads, 1]; a slot < 0 is padding
        mask = is_written & (lanes[None, :] < half)
        keys, values = key_cache + slot * key_cache_stride, value_cache + slot * value_cache_stride
        source = value + token * value_stride + offsets
        first_values = tl.load(source, mask=mask, other=0.0)
        second_values = tl.load(source + half, mask=mask, other=0.0)
        if is_quantized:
            store_quantized(first, second, keys, heads, is_written, half, half_pad)
            store_quantized(first_values, second_values, values, heads, is_written, half, half_pad)
        else:
            tl.store(keys + offsets, first, mask=mask)
            tl.store(keys + half + offsets, second, mask=mask)
            tl.store(values + offsets, first_values, mask=mask)
            tl.store(values + half + offsets, second_values, mask=mask)


def rotate_and_write_kv(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slots: Tensor,
    cosine: Tensor,
    sine: Tensor,
) -> None:
    """See `Ops.rotate_and_write_kv`; the heads of a token are contiguous."""
    num_tokens, num_query_heads, head_dim = query.shape
    if not num_tokens:
        return
    num_kv_heads, half = key.shape[1], head_dim // 2
    _rotate_and_write_kernel[(num_tokens, triton.cdiv(max(num_query_heads, num_kv_heads), NUM_HEADS))](
        query,
        key,
        value,
        key_cache,
        value_cache,
        slots,
        cosine,
        sine,
        *(side.stride(0) for side in (query, key, value, key_cache, value_cache, cosine, sine)),
        num_query_heads=num_query_heads,
        num_kv_heads=num_kv_heads,
        half=half,
        half_pad=triton.next_power_of_2(half),
        num_heads=NUM_HEADS,
        is_quantized=key_cache.dtype == torch.int8,
        num_warps=2,
        enable_fp_fusion=True,
    )
