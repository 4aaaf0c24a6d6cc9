"""Modules that replace those of a transformers model and compute with our operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pagedbench.ops.interface import Linear, Ops


def weight_of(linear: Any) -> Tensor:
    """The weight of `nn.Linear` or `Conv1D`.  # [out_features, in_features]"""
    weight: Tensor = linear.weight.detach()
    return weight if isinstance(linear, nn.Linear) else weight.t()


def packed(linear: Any, ops: Ops, activation: str = "none") -> Linear:
    """The product of a module, which gives up its weight."""
    weight, bias = weight_of(linear).contiguous(), linear.bias
    linear.weight = None
    return ops.linear(weight, None if bias is None else bias.detach(), activation)


def is_linear(module: nn.Module) -> bool:
    """Is it a product with a weight: torch's, or GPT-2's `Conv1D`, whose weight is transposed?"""
    return type(module) is nn.Linear or type(module).__name__ == "Conv1D"


def freed(*linears: Any) -> Tensor:
    """Stacked weights, taken from their modules.  # [sum of out_features, in_features]"""
    weights = []
    for linear in linears:
        weights.append(weight_of(linear))
        linear.weight = None
    return torch.cat(weights)


class PackedLinear(nn.Module):
    """A product with its bias and, if fused, its activation."""

    def __init__(self, product: Linear) -> None:
        super().__init__()
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]"""
        return self.product(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)


class SharedInput:
    """One product for modules that read the same tensor in turn, as query, key and value do."""

    def __init__(self, product: Linear, sizes: Sequence[int]) -> None:
        self._product = product
        self._sizes = list(sizes)
        self._x: Tensor | None = None
        self._parts: tuple[Tensor, ...] = ()

    def part(self, index: int) -> nn.Module:
        """The module that returns part number `index` of the columns."""
        return SharedPart(self, index)

    def compute(self, x: Tensor, index: int) -> Tensor:
        """[..., in_features] to [..., sizes[index]], a view of the whole product."""
        if x is not self._x:
            rows = self._product(x.reshape(-1, x.shape[-1]))
            self._x, self._parts = x, rows.view(*x.shape[:-1], -1).split(self._sizes, dim=-1)
        part = self._parts[index]
        if index == len(self._sizes) - 1:
            self._x, self._parts = None, ()  # read by the last module: free the tensors
        return part


class SharedPart(nn.Module):
    """One of the modules of a `SharedInput`."""

    def __init__(self, shared: SharedInput, index: int) -> None:
        super().__init__()
        self._shared = shared
        self._index = index

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]"""
        return self._shared.compute(x, self._index)


class GatedFeedForward(nn.Module):
    """down(silu(gate(x)) * up(x)), with the gating fused into the first product."""

    def __init__(self, gate_up: Linear, down: Linear) -> None:
        super().__init__()
        self._gate_up = gate_up
        self._down = down

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden_size] to [..., hidden_size]"""
        return self._down(self._gate_up(x.reshape(-1, x.shape[-1]))).view(x.shape)
