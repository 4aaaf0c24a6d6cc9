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
    """Add to the residual stream, and give its norm: mean 0, variance 1, then weight and bias.

    Args:
        hidden: [num_tokens, size], the residual stream. `delta` is added to it in place, and rounded to
            its dtype.
        delta: [num_tokens, size]; None adds nothing.
        weight, bias: [size]; None: 1 and 0.

    Returns:
        [num_tokens, size], a new tensor. Mean and variance are computed in float32.
    """
    if delta is not None:
        hidden += delta
    return F.layer_norm(hidden, hidden.shape[-1:], weight, bias, epsilon)


def rms_norm(hidden: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    """As `layer_norm`, but root mean square 1, and then the weight (Zhang and Sennrich 2019).

    The normed value is rounded to the dtype of `hidden` before the weight multiplies it.
    """
    if delta is not None:
        hidden += delta
    wide = hidden.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(hidden.dtype)  # [num_tokens, size]
