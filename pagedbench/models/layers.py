"""The parts of our own model families, and Attend, the interface between a layer and attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch.nn.functional as F

from pagedbench.ops.fused import NormWeights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from pagedbench.models.weights import Weights
    from pagedbench.ops.fused import DecodeContexts
    from pagedbench.ops.interface import Linear, Ops
    from pagedbench.simulation.shapes import ModelShape


@dataclass(frozen=True, slots=True)
class Rotation:
    """The angles by which the tokens of an iteration are rotated (rotary positions)."""

    cosine: Tensor  # float32 [num_tokens, head_dim / 2]
    sine: Tensor  # float32 [num_tokens, head_dim / 2]


@dataclass(frozen=True, slots=True)
class AttentionParams:
    """What a layer does with its scores besides the usual softmax. See `Ops.attend_decode`."""

    scale: float
    softcap: float | None = None
    sink_logits: Tensor | None = None  # float32 [num_heads]


class Attend(Protocol):
    """Attention of one iteration: stores the new keys and values, then lets the queries attend.

    Queries and keys are rotated by `rotation`, in place, if there is one.
    """

    @property
    def decodes(self) -> DecodeContexts | None:
        """What `Ops.fuse` needs of it, if all tokens decode and see all of their sequences; else None."""
        ...

    def __call__(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rotation: Rotation | None,
        rows: Tensor | None = None,
        params: AttentionParams | None = None,
    ) -> Tensor:
        """Attention in layer number `layer`.

        Args:
            query: [num_tokens, num_heads, head_dim]
            key, value: [num_tokens, num_kv_heads, head_dim]
            rows: int64 [num_rows], attend only for these tokens, each the last one of its context (in the
                last layer: those from which a token is sampled); None: for all tokens.
            params: None: scores are only scaled, by 1 / sqrt(head_dim).

        Returns:
            [num_tokens or num_rows, num_heads, head_dim]
        """
        ...


class Norm(Protocol):
    """Residual and norm in one step."""

    def __call__(self, hidden: Tensor, delta: Tensor | None) -> Tensor:
        """Add `delta` to `hidden` in place, and return the norm of the sum.  # [num_tokens, size]"""
        ...

    def weights(self) -> NormWeights:
        """What it computes."""
        ...


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Mean 0 and variance 1, then weight and bias where the checkpoint has them."""

    ops: Ops
    weight: Tensor | None  # [size]
    bias: Tensor | None  # [size]
    epsilon: float = 1e-5

    def __call__(self, hidden: Tensor, delta: Tensor | None) -> Tensor:
        return self.ops.layer_norm(hidden, delta, self.weight, self.bias, self.epsilon)

    def weights(self) -> NormWeights:
        return NormWeights(self.weight, self.bias, self.epsilon, is_centred=True)


@dataclass(frozen=True, slots=True)
class RMSNorm:
    """Root mean square 1, then the weight."""

    ops: Ops
    weight: Tensor  # [size]
    epsilon: float

    def __call__(self, hidden: Tensor, delta: Tensor | None) -> Tensor:
        return self.ops.rms_norm(hidden, delta, self.weight, self.epsilon)

    def weights(self) -> NormWeights:
        return NormWeights(self.weight, None, self.epsilon, is_centred=False)


class Embedding(Protocol):
    """The table of the tokens."""

    def __call__(self, token_ids: Tensor) -> Tensor:
        """int64 [num_tokens] to [num_tokens, hidden_size]."""
        ...


@dataclass(frozen=True, slots=True)
class TokenEmbedding:
    """A table with one row per token."""

    weight: Tensor  # [vocab_size, hidden_size]

    def __call__(self, token_ids: Tensor) -> Tensor:
        return F.embedding(token_ids, self.weight)


@dataclass(frozen=True, slots=True)
class Parts:
    """Makes the parts of a model from its weights, for the backend that will compute them.

    A projection is read, packed and freed before the next is read: memory does not double.
    """

    weights: Weights
    ops: Ops

    def linear(
        self, rows: Mapping[str, int], in_features: int, *, bias: bool, activation: str = "none"
    ) -> Linear:
        """One product for the projections `rows` (name to out_features), which share their input."""
        biases = {f"{name}.bias": size for name, size in rows.items()}
        return self.ops.linear(
            self.weights.stacked({f"{name}.weight": size for name, size in rows.items()}, in_features),
            self.weights.stacked(biases) if bias else None,
            activation,
        )

    def table(self, name: str, shape: ModelShape) -> tuple[Tensor, Linear | None]:
        """The embedding of tokens, and the head that has its weight, if the two are tied."""
        table = self.weights.tensor(name, shape.vocab_size, shape.hidden_size)
        return table, self.ops.linear(table) if shape.tied_embeddings else None

    def layer_norm(self, name: str, size: int, *, affine: bool) -> LayerNorm:
        if not affine:
            return LayerNorm(self.ops, None, None)
        weight, bias = (self.weights.tensor(f"{name}.{part}", size) for part in ("weight", "bias"))
        return LayerNorm(self.ops, weight, bias)

    def rms_norm(self, name: str, size: int, epsilon: float) -> RMSNorm:
        return RMSNorm(self.ops, self.weights.tensor(f"{name}.weight", size), epsilon)
