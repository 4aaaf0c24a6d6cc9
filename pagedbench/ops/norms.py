"""Residual and norm in one step, in plain PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


def layer_norm(
    hidden: Tensor, delta: Tensor | None, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    """See `Ops.layer_norm`."""
    if delta is not None:
        hidden += delta
    return F.layer_norm(hidden, hidden.shape[-1:], weight, bias, epsilon)


def rms_norm(hidden: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    """See `Ops.rms_norm`."""
    if delta is not None:
        hidden += delta
    wide = hidden.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(hidden.dtype)  # [num_tokens, size]
