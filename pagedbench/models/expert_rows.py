"""Padding experts: torch's grouped product takes only rows whose length is a multiple of 16 bytes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

ROW_BYTES = 16
DOWN = ("down_proj",)
UP = ("gate_up_proj", "gate_up_proj_bias", "up_proj", "up_proj_bias")


def pad_experts(model: nn.Module) -> None:
    """Widen the experts of a transformers model to rows that the grouped product takes.

    The intermediate size is padded with zeros. A gate of zero lets nothing through, and the down projection
    multiplies the padding by zeros: results have the same bits.
    """
    for module in list(model.modules()):
        if hasattr(module, "is_concatenated"):  # the mark of transformers' experts
            _pad(module)


def _pad(experts: Any) -> None:
    down: Tensor = experts.down_proj  # [num_experts, hidden_size, size], or the last two transposed
    size = down.shape[1 if experts.is_transposed else 2]
    missing = -size % (ROW_BYTES // down.element_size())
    if not missing:
        return
    for name in (*UP, *DOWN):
        parameter = getattr(experts, name, None)
        if isinstance(parameter, nn.Parameter):
            wider = _wider(experts, name, parameter.detach(), missing)
            setattr(experts, name, nn.Parameter(wider, requires_grad=False))


def _wider(experts: Any, name: str, tensor: Tensor, missing: int) -> Tensor:
    is_last = experts.is_transposed != (name in DOWN) or name.endswith("bias")
    dim = tensor.dim() - 1 if is_last else tensor.dim() - 2
    is_double = name.startswith("gate_up")
    halves = tensor.chunk(2, dim) if is_double and experts.is_concatenated else (tensor,)
    sizes = list(tensor.shape)
    sizes[dim] = missing * (2 if is_double and not experts.is_concatenated else 1)
    zeros = tensor.new_zeros(sizes)
    return torch.cat([part for half in halves for part in (half, zeros)], dim)
