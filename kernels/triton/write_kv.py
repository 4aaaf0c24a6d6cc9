"""Writes new tokens to their slots: one launch for keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from pagedbench.kernels.triton.quantize import quantize_kv

if TYPE_CHECKING:
    from torch import Tensor

MAX_CHUNK = 1024
"""Elements of a token that one program writes."""


@triton.jit
def _write_kernel(
    key: tl.tensor,  # [num_tokens, row_size]
    value: tl.tensor,
    key_cache: tl.tensor,  # [num_slots, row_size]
    value_cache: tl.tensor,
    slots: tl.tensor,  # int64 [num_tokens]
    key_stride: tl.tensor,
    value_stride: tl.tensor,
    key_cache_stride: tl.tensor,
    value_cache_stride: tl.tensor,
    row_size: tl.constexpr,
    chunk: tl.constexpr,
) -> None:
    """A program is a chunk of one token. A negative slot is padding."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    lanes = tl.program_id(1) * chunk + tl.arange(0, chunk)
    is_written = lanes < tl.where(slot >= 0, row_size, 0)
    keys = tl.load(key + token * key_stride + lanes, mask=is_written)
    values = tl.load(value + token * value_stride + lanes, mask=is_written)
    tl.store(key_cache + slot * key_cache_stride + lanes, keys, mask=is_written)
    tl.store(value_cache + slot * value_cache_stride + lanes, values, mask=is_written)


def write_kv(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
    """See `Ops.write_kv`; the heads of a token are contiguous."""
    num_tokens, num_kv_heads, head_dim = key.shape
    row_size = num_kv_heads * head_dim
    if not num_tokens:
        return
    if key_cache.dtype == torch.int8:
        quantize_kv(key, value, key_cache, value_cache, slots)
        return
    chunk = min(triton.next_power_of_2(row_size), MAX_CHUNK)
    _write_kernel[(num_tokens, triton.cdiv(row_size, chunk))](
        key,
        value,
        key_cache,
        value_cache,
        slots,
        *(side.stride(0) for side in (key, value, key_cache, value_cache)),
        row_size=row_size,
        chunk=chunk,
        num_warps=4,
        enable_fp_fusion=True,
    )
