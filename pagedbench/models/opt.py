"""OPT (Zhang et al. 2022): pre-norm decoder, learned positions, biases everywhere, tied embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from pagedbench.models.layers import LayerNorm, Linear
from pagedbench.models.weights import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from pagedbench.execution.shapes import ModelShape
    from pagedbench.models.layers import Attend
    from pagedbench.models.weights import Weights

POSITION_OFFSET = 2
"""The first rows of the position table stand for padding and are never used."""


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,  # its input is a fresh product: nobody else reads it
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
}


@dataclass(frozen=True, slots=True)
class OPTSettings:
    """What tells models of the OPT family apart, besides their shape."""

    activation: str = "relu"
    bias: bool = True
    norm_affine: bool = True

    @classmethod
    def of(cls, config: Any) -> OPTSettings:
        """Read a transformers `OPTConfig`.

        Raises:
            ModelError: the config asks for a variant that is not supported.
        """
        if not config.do_layer_norm_before:
            raise ModelError(
                "this OPT normalises after attention (opt-350m), which is not supported: take another"
            )
        if config.word_embed_proj_dim != config.hidden_size:
            raise ModelError(
                "this OPT projects its embeddings (opt-350m), which is not supported: take another"
            )
        if config._remove_final_layer_norm:
            raise ModelError("this OPT has no final layer norm, which is not supported: take another")
        if config.activation_function not in ACTIVATIONS:
            raise ModelError(
                f"OPT with the activation {config.activation_function} is not supported: "
                f"use one of {', '.join(ACTIVATIONS)}"
            )
        return cls(config.activation_function, config.enable_bias, config.layer_norm_elementwise_affine)


class OPTLayer:
    """Attention and feed-forward, each behind a norm and added to the residual stream."""

    def __init__(self, index: int, shape: ModelShape, settings: OPTSettings, weights: Weights) -> None:
        name, hidden, bias = f"model.decoder.layers.{index}", shape.hidden_size, settings.bias
        projections = {f"{name}.self_attn.{part}_proj": hidden for part in "qkv"}
        self.index = index
        self.num_heads, self.head_dim = shape.num_heads, shape.head_dim
        self.activation = ACTIVATIONS[settings.activation]
        self.attention_norm = LayerNorm.load(
            weights, f"{name}.self_attn_layer_norm", hidden, affine=settings.norm_affine
        )
        self.qkv = Linear.load(weights, projections, hidden, bias=bias)
        self.out = Linear.load(weights, {f"{name}.self_attn.out_proj": hidden}, hidden, bias=bias)
        self.ffn_norm = LayerNorm.load(
            weights, f"{name}.final_layer_norm", hidden, affine=settings.norm_affine
        )
        self.up = Linear.load(weights, {f"{name}.fc1": shape.ffn_size}, hidden, bias=bias)
        self.down = Linear.load(weights, {f"{name}.fc2": hidden}, shape.ffn_size, bias=bias)

    def forward(self, hidden: Tensor, attend: Attend) -> Tensor:
        """hidden: [num_tokens, hidden_size], replaced in place."""
        qkv = self.qkv(self.attention_norm(hidden))  # [num_tokens, 3 * hidden_size]
        qkv = qkv.view(-1, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.unbind(1)  # [num_tokens, num_heads, head_dim] each
        attention = attend(self.index, query, key, value)  # [num_tokens, num_heads, head_dim]
        hidden += self.out(attention.flatten(1))
        hidden += self.down(self.activation(self.up(self.ffn_norm(hidden))))
        return hidden


class OPTModel:
    """A model of the OPT family. See `Decoder`."""

    def __init__(self, shape: ModelShape, settings: OPTSettings, weights: Weights) -> None:
        name, hidden = "model.decoder", shape.hidden_size
        self.shape = shape
        self.token_embedding = weights.tensor(f"{name}.embed_tokens.weight", shape.vocab_size, hidden)
        self.position_embedding = weights.tensor(
            f"{name}.embed_positions.weight", shape.max_model_len + POSITION_OFFSET, hidden
        )
        self.layers = [OPTLayer(index, shape, settings, weights) for index in range(shape.num_layers)]
        self.final_norm = LayerNorm.load(
            weights, f"{name}.final_layer_norm", hidden, affine=settings.norm_affine
        )
        if shape.tied_embeddings:
            self.head = Linear.of(self.token_embedding)
        else:
            self.head = Linear.load(weights, {"lm_head": shape.vocab_size}, hidden, bias=False)

    def forward(self, token_ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        hidden = F.embedding(token_ids, self.token_embedding)  # [num_tokens, hidden_size]
        hidden += F.embedding(positions + POSITION_OFFSET, self.position_embedding)
        for layer in self.layers:
            hidden = layer.forward(hidden, attend)
        return hidden

    def logits(self, hidden_rows: Tensor) -> Tensor:
        return self.head(self.final_norm(hidden_rows))  # [num_rows, vocab_size]
