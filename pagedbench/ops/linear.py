"""TorchLinear: matrix products by torch, with the weight packed for them where possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

ACTIVATIONS = ("none", "relu", "gelu", "gelu_tanh", "silu_gated")

EPILOGUES = {"relu": ("relu", ""), "gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh")}
"""Activations that the matrix library fuses with a product, and its names for them."""


def linear(weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> TorchLinear:
    """See `Ops.linear`."""
    assert activation in ACTIVATIONS, f"unknown activation {activation}"
    num_rows = weight.shape[0]
    out_features = num_rows // 2 if activation == "silu_gated" else num_rows
    if not _can_pack(weight):
        return TorchLinear(weight, bias, activation, out_features, is_packed=False)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    return TorchLinear(packed, bias, activation, out_features, is_packed=True)


@dataclass(frozen=True, slots=True)
class TorchLinear:
    """See `interface.Linear`.

    On a CPU the weight is kept in the blocked layout of torch's matrix library (oneDNN): `F.linear` would
    rearrange it at every call, which costs more than the product where there are few tokens.
    """

    weight: Tensor  # [num_rows, in_features], opaque if packed
    bias: Tensor | None  # [num_rows]
    activation: str
    out_features: int
    is_packed: bool

    def __call__(self, x: Tensor) -> Tensor:
        if not self.is_packed:
            return _activate(F.linear(x, self.weight, self.bias), self.activation)
        epilogue, kind = EPILOGUES.get(self.activation, ("none", ""))
        product = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, epilogue, [], kind)
        return _gated(product) if self.activation == "silu_gated" else product

    def argmax(self, x: Tensor) -> Tensor:
        """See `interface.Linear`."""
        return self(x).argmax(dim=-1)


def _activate(product: Tensor, activation: str) -> Tensor:
    """Activate a product, [num_tokens, num_rows], which may be overwritten."""
    if activation == "relu":
        return product.relu_()
    if activation.startswith("gelu"):
        return F.gelu(product, approximate="tanh" if activation == "gelu_tanh" else "none")
    return _gated(product) if activation == "silu_gated" else product


def _gated(product: Tensor) -> Tensor:
    gate, up = product.chunk(2, dim=-1)  # [num_tokens, out_features] each
    return F.silu(gate) * up


def _can_pack(weight: Tensor) -> bool:
    """Can the matrix library pack this weight? bfloat16 only on processors that compute in it."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32
