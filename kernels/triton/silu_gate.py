"""SwiGLU's gate over the halves of a fused projection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from pagedbench.kernels.triton.arithmetic import narrow

if TYPE_CHECKING:
    from torch import Tensor

MAX_CHUNK = 1024
"""Elements that one program computes."""


@triton.jit
def _silu_gate_kernel(
    out: tl.tensor,  # [num_tokens, size]
    gate_up: tl.tensor,  # [num_tokens, 2 * size]
    stride: tl.tensor,
    size: tl.constexpr,
    chunk: tl.constexpr,
) -> None:
    """A program is a chunk of one token."""
    token = tl.program_id(0).to(tl.int64)
    lanes = tl.program_id(1) * chunk + tl.arange(0, chunk)
    is_real = lanes < size
    gates = gate_up + token * stride + lanes
    gate = tl.load(gates, mask=is_real, other=0.0).to(tl.float32)
    up = tl.load(gates + size, mask=is_real, other=0.0).to(tl.float32)
    dtype: tl.constexpr = out.dtype.element_ty
    silu = narrow(gate / (1.0 + tl.exp(-gate)), dtype).to(tl.float32)  # rounded as in PyTorch
    tl.store(out + token * size + lanes, narrow(silu * up, dtype), mask=is_real)


def silu_gate(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, each computed in float32 and rounded.

    Args:
        gate_up: [num_tokens, 2 * size], the gate in the first half; the elements of a token contiguous.

    Returns:
        [num_tokens, size]
    """
    num_tokens, size = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty((num_tokens, size), dtype=gate_up.dtype, device=gate_up.device)
    if not num_tokens:
        return out
    chunk = min(triton.next_power_of_2(size), MAX_CHUNK)
    _silu_gate_kernel[(num_tokens, triton.cdiv(size, chunk))](
        out,
        gate_up,
        gate_up.stride(0),
        size=size,
        chunk=chunk,
        num_warps=4,
        enable_fp_fusion=True,
    )
    return out
