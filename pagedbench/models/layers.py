"""The parts that both model families share, and what a model asks of attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from pagedbench.execution.shapes import ModelShape
    from pagedbench.models.weights import Weights


class Attend(Protocol):
    """Attention of one iteration: stores the new keys and values, then lets every query look back."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of layer number `layer`, scaled by 1 / sqrt(head_dim).

        Args:
            layer: number of the layer, from 0.
            query: [num_tokens, num_heads, head_dim]
            key, value: [num_tokens, num_kv_heads, head_dim]

        Returns:
            [num_tokens, num_heads, head_dim]
        """
        ...


class Decoder(Protocol):
    """A decoder-only transformer over the flattened tokens of an iteration."""

    shape: ModelShape

    def forward(self, token_ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """The hidden state of every token, before the final norm.

        Args:
            token_ids, positions: int64 [num_tokens]; which tokens belong together only `attend` knows.
            attend: attention, with the iteration's placements in it.

        Returns:
            [num_tokens, hidden_size]
        """
        ...

    def logits(self, hidden_rows: Tensor) -> Tensor:
        """The final norm and the vocabulary projection of some rows of `forward`'s answer.

        Args:
            hidden_rows: [num_rows, hidden_size]

        Returns:
            [num_rows, vocab_size]
        """
        ...


@dataclass(frozen=True, slots=True)
class Linear:
    """x · weightᵀ + bias.

    On a CPU the weight is kept in the blocked layout of torch's matrix library (oneDNN): `F.linear` would
    rearrange it at every call, which costs more than the product where there are few tokens.
    """

    weight: Tensor  # [out_features, in_features], opaque if packed
    bias: Tensor | None  # [out_features]
    is_packed: bool

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> Linear:
        """Pack the weight where that can be done; the caller may drop its own."""
        if not _can_pack(weight):
            return cls(weight, bias, is_packed=False)
        return cls(torch.ops.mkldnn._reorder_linear_weight(weight), bias, is_packed=True)

    @classmethod
    def load(cls, weights: Weights, rows: Mapping[str, int], in_features: int, *, bias: bool) -> Linear:
        """One product for the projections `rows` (name to out_features), which share their input."""
        weight = weights.stacked({f"{name}.weight": size for name, size in rows.items()}, in_features)
        if not bias:
            return cls.of(weight)
        return cls.of(weight, weights.stacked({f"{name}.bias": size for name, size in rows.items()}))

    def __call__(self, x: Tensor) -> Tensor:
        if self.is_packed:
            return _packed_linear(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)  # [num_tokens, out_features]


def _can_pack(weight: Tensor) -> bool:
    """The matrix library packs bfloat16 only for processors that compute in it."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def _packed_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product  # [num_tokens, out_features]


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Mean 0 and variance 1, then weight and bias where the checkpoint has them."""

    size: int
    weight: Tensor | None  # [size]
    bias: Tensor | None  # [size]
    epsilon: float = 1e-5

    @classmethod
    def load(cls, weights: Weights, name: str, size: int, *, affine: bool) -> LayerNorm:
        if not affine:
            return cls(size, None, None)
        return cls(size, weights.tensor(f"{name}.weight", size), weights.tensor(f"{name}.bias", size))

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.size,), self.weight, self.bias, self.epsilon)  # [num_tokens, size]


@dataclass(frozen=True, slots=True)
class RMSNorm:
    """Root mean square 1, then the weight; computed in float32, multiplied in the model's dtype."""

    weight: Tensor  # [size]
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * wide.to(x.dtype)  # [num_tokens, size]
