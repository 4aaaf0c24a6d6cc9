"""Writes heads in 8 bits, each followed by its scale: see `pagedbench.ops.quantized`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

NUM_HEADS = 8
"""Heads of a token that one program writes."""


@triton.jit
def store_quantized(
    first: tl.tensor,  # [heads, half_pad], the first halves of some heads; zeros after `half`
    second: tl.tensor,
    cache: tl.tensor,  # to a slot, int8
    heads: tl.tensor,  # [heads, 1]
    is_written: tl.tensor,  # [heads, 1]
    half: tl.constexpr,
    half_pad: tl.constexpr,
) -> None:
    """Round to nearest, ties to even, and store elements and scales."""
    first, second = first.to(tl.float32), second.to(tl.float32)
    most = tl.maximum(tl.max(tl.abs(first), axis=1), tl.max(tl.abs(second), axis=1))  # [heads]
    not_finite = tl.sum(first * 0.0, axis=1) + tl.sum(second * 0.0, axis=1)  # NaN, or else 0
    scales = tl.div_rn(most, 127.0) + not_finite
    divisors = tl.where(scales > 0, scales, 1.0)[:, None]
    rows = cache + heads * (2 * half + 4)  # [heads, 1]
    lanes = tl.arange(0, half_pad)[None, :]
    mask = is_written & (lanes < half)
    tl.store(rows + lanes, _rounded(tl.div_rn(first, divisors)), mask=mask)
    tl.store(rows + half + lanes, _rounded(tl.div_rn(second, divisors)), mask=mask)
    ends = (rows + 2 * half).to(tl.pointer_type(tl.float32), bitcast=True)
    tl.store(ends, scales[:, None], mask=is_written)


@triton.jit
def _rounded(x: tl.tensor) -> tl.tensor:
    x = tl.minimum(tl.maximum(x, -127.0), 127.0)
    return ((x + 12582912.0) - 12582912.0).to(tl.int8)  # the sum is too large for bits after the point


@triton.jit
def _quantize_kernel(
    key: tl.tensor,  # [num_tokens, num_kv_heads, 2 * half]
    value: tl.tensor,
    key_cache: tl.tensor,  # int8 [num_slots, num_kv_heads, 2 * half + 4]
    value_cache: tl.tensor,
    slots: tl.tensor,  # int64 [num_tokens]
    key_stride: tl.tensor,
    value_stride: tl.tensor,
    key_cache_stride: tl.tensor,
    value_cache_stride: tl.tensor,
    num_kv_heads: tl.constexpr,
    half: tl.constexpr,
    half_pad: tl.constexpr,
    num_heads: tl.constexpr,
) -> None:
    """A program is `num_heads` heads of one token. A negative slot is padding."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    heads = tl.program_id(1) * num_heads + tl.arange(0, num_heads)[:, None]
    is_written = heads < tl.where(slot >= 0, num_kv_heads, 0)
    lanes = tl.arange(0, half_pad)[None, :]
    offsets = heads * (2 * half) + lanes
    mask = is_written & (lanes < half)
    keys, values = key + token * key_stride + offsets, value + token * value_stride + offsets
    first, second = tl.load(keys, mask=mask, other=0.0), tl.load(keys + half, mask=mask, other=0.0)
    store_quantized(first, second, key_cache + slot * key_cache_stride, heads, is_written, half, half_pad)
    first, second = tl.load(values, mask=mask, other=0.0), tl.load(values + half, mask=mask, other=0.0)
    store_quantized(
        first, second, value_cache + slot * value_cache_stride, heads, is_written, half, half_pad
    )


def quantize_kv(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
    """See `Ops.write_kv`, to caches of 8 bits; the heads of a token are contiguous."""
    num_tokens, num_kv_heads, head_dim = key.shape
    _quantize_kernel[(num_tokens, triton.cdiv(num_kv_heads, NUM_HEADS))](
        key,
        value,
        key_cache,
        value_cache,
        slots,
        *(side.stride(0) for side in (key, value, key_cache, value_cache)),
        num_kv_heads=num_kv_heads,
        half=head_dim // 2,
        half_pad=triton.next_power_of_2(head_dim // 2),
        num_heads=NUM_HEADS,
        num_warps=2,
        enable_fp_fusion=False,
    )
