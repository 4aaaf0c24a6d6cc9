"""Adds to the residual stream and normalizes it, in one pass over each token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from pagedbench.kernels.triton.arithmetic import narrow

if TYPE_CHECKING:
    from torch import Tensor


@triton.jit
def _norm_kernel(
    out: tl.tensor,  # [num_tokens, size]
    hidden: tl.tensor,  # [num_tokens, size]
    delta: tl.tensor | None,  # [num_tokens, size]
    weight: tl.tensor | None,  # [size]
    bias: tl.tensor | None,  # [size]
    epsilon: tl.tensor,
    hidden_stride: tl.tensor,
    delta_stride: tl.tensor,
    size: tl.constexpr,
    size_pad: tl.constexpr,
    has_mean: tl.constexpr,
) -> None:
    """A program is one token. `has_mean`: to mean 0 and variance 1, else to root mean square 1."""
    dtype: tl.constexpr = hidden.dtype.element_ty
    token = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, size_pad)
    is_real = lanes < size
    x = tl.load(hidden + token * hidden_stride + lanes, mask=is_real, other=0.0).to(tl.float32)
    if delta is not None:
        x += tl.load(delta + token * delta_stride + lanes, mask=is_real, other=0.0).to(tl.float32)
        stored = narrow(x, dtype)
        tl.store(hidden + token * hidden_stride + lanes, stored, mask=is_real)
        x = stored.to(tl.float32)
    if has_mean:
        x = tl.where(is_real, x - tl.sum(x, axis=0) / size, 0.0)
    x = x / tl.sqrt(tl.sum(x * x, axis=0) / size + epsilon)
    if not has_mean:  # the definition of RMSNorm rounds before the weight
        x = narrow(x, dtype).to(tl.float32)
    if weight is not None:
        x *= tl.load(weight + lanes, mask=is_real, other=0.0).to(tl.float32)
    if bias is not None:
        x += tl.load(bias + lanes, mask=is_real, other=0.0).to(tl.float32)
    tl.store(out + token * size + lanes, narrow(x, dtype), mask=is_real)


def _norm(
    hidden: Tensor,
    delta: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
    *,
    has_mean: bool,
) -> Tensor:
    num_tokens, size = hidden.shape
    out = torch.empty((num_tokens, size), dtype=hidden.dtype, device=hidden.device)
    if not num_tokens:
        return out
    size_pad = triton.next_power_of_2(size)
    _norm_kernel[(num_tokens,)](
        out,
        hidden,
        delta,
        weight,
        bias,
        epsilon,
        hidden.stride(0),
        0 if delta is None else delta.stride(0),
        size=size,
        size_pad=size_pad,
        has_mean=has_mean,
        num_warps=min(max(size_pad // 512, 1), 16),
        enable_fp_fusion=True,
    )
    return out


def layer_norm(
    hidden: Tensor, delta: Tensor | None, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    """See `Ops.layer_norm`; the elements of a token are contiguous."""
    return _norm(hidden, delta, weight, bias, epsilon, has_mean=True)


def rms_norm(hidden: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    """See `Ops.rms_norm`; the elements of a token are contiguous."""
    return _norm(hidden, delta, weight, None, epsilon, has_mean=False)
