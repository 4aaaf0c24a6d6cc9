"""Decoder: layers of attention and feed-forward over the flattened tokens of an iteration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pagedbench.ops.fused import LayerWeights

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.models.layers import Attend, Embedding, Norm, Rotation
    from pagedbench.ops.fused import FusedLayers
    from pagedbench.ops.interface import Linear, Ops
    from pagedbench.simulation.shapes import ModelShape


@dataclass(frozen=True, slots=True)
class Embedded:
    """Tokens on their way into the first layer."""

    hidden: Tensor  # [num_tokens, hidden_size], the residual stream
    delta: Tensor | None  # [num_tokens, hidden_size], to be added to it
    rotation: Rotation | None


@dataclass(frozen=True, slots=True)
class Layer:
    """Attention and feed-forward, each after a norm.

    The output of each (the delta) is added to the residual stream by the next norm.
    """

    index: int
    shape: ModelShape
    attention_norm: Norm
    qkv: Linear
    out: Linear
    ffn_norm: Norm
    up: Linear  # its activation included
    down: Linear

    def forward(
        self,
        hidden: Tensor,
        delta: Tensor | None,
        rotation: Rotation | None,
        attend: Attend,
        rows: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Add `delta` to `hidden` in place; return the residual stream and the next delta.

        With `rows`, all keys and values are stored, but the rest is computed only for these tokens.

        Returns:
            [num_tokens or num_rows, hidden_size] both.
        """
        attention = attend(self.index, *self._project(hidden, delta), rotation, rows)
        if rows is not None:
            hidden = hidden.index_select(0, rows)
            if not len(rows):
                return hidden, hidden
        return hidden, self._feed_forward(hidden, attention)

    def weights(self) -> LayerWeights:
        """What it computes, for `Ops.fuse`."""
        norms = self.attention_norm.weights(), self.ffn_norm.weights()
        return LayerWeights(norms[0], self.qkv, self.out, norms[1], self.up, self.down)

    def _project(self, hidden: Tensor, delta: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value: views of one product.  # [num_tokens, num_(kv_)heads, head_dim] each"""
        heads, kv_heads = self.shape.num_heads, self.shape.num_kv_heads
        qkv = self.qkv(self.attention_norm(hidden, delta))
        qkv = qkv.view(-1, heads + 2 * kv_heads, self.shape.head_dim)
        query, key, value = qkv.split((heads, kv_heads, kv_heads), dim=1)
        return query, key, value

    def _feed_forward(self, hidden: Tensor, attention: Tensor) -> Tensor:
        delta = self.out(attention.flatten(1))  # [num_tokens, hidden_size]
        return self.down(self.up(self.ffn_norm(hidden, delta)))


class Decoder(ABC):
    """A decoder-only transformer; only `Attend` knows which tokens belong to one sequence.

    Attributes:
        is_capturable: does `forward` launch the same work for equal shapes, whatever the values are? A CUDA
            graph can then record it.
    """

    shape: ModelShape
    is_capturable: bool

    @abstractmethod
    def forward(self, token_ids: Tensor, positions: Tensor, attend: Attend, rows: Tensor | None) -> Tensor:
        """The states, after the final norm, that the next tokens are sampled from.

        Args:
            token_ids, positions: int64 [num_tokens].
            attend: attention of this iteration.
            rows: int64 [num_rows], the tokens from which a next token is sampled, ascending; None: all.

        Returns:
            [num_rows, hidden_size]
        """

    @abstractmethod
    def logits(self, states: Tensor) -> Tensor:
        """The score of every token of the vocabulary.

        Args:
            states: [num_rows, hidden_size], rows of what `forward` returns.

        Returns:
            [num_rows, vocab_size]
        """

    @abstractmethod
    def greedy(self, states: Tensor) -> Tensor:
        """The token of each row's largest logit, the first among equals.  # int64 [num_rows]"""


class PreNormDecoder(Decoder):
    """Layers of our own: residual and norm are one step, and the last layer computes only sampled rows."""

    ops: Ops
    embed_tokens: Embedding
    layers: list[Layer]
    final_norm: Norm
    head: Linear
    is_capturable = True

    @abstractmethod
    def embed(self, token_ids: Tensor, positions: Tensor) -> Embedded:
        """Embed tokens for the first layer; token ids and positions are int64 [num_tokens] both."""

    def forward(self, token_ids: Tensor, positions: Tensor, attend: Attend, rows: Tensor | None) -> Tensor:
        start = self.embed(token_ids, positions)
        hidden, delta, rotation = start.hidden, start.delta, start.rotation
        contexts = attend.decodes if rows is None else None
        if contexts is not None and self._fused is not None:
            angles = None if rotation is None else (rotation.cosine, rotation.sine)
            return self.final_norm(hidden, self._fused(hidden, delta, angles, contexts))
        for layer in self.layers:
            is_last = layer is self.layers[-1]
            hidden, delta = layer.forward(hidden, delta, rotation, attend, rows if is_last else None)
        return self.final_norm(hidden, delta) if len(hidden) else hidden

    @cached_property
    def _fused(self) -> FusedLayers | None:
        """The layers as one call. They are final when the first tokens come: see `shared.share`."""
        return self.ops.fuse([layer.weights() for layer in self.layers])

    def logits(self, states: Tensor) -> Tensor:
        return self.head(states)

    def greedy(self, states: Tensor) -> Tensor:
        return self.head.argmax(states)
