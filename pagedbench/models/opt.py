"""OPT (Zhang et al. 2022): pre-norm decoder, learned positions, biases everywhere, tied embeddings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from pagedbench.models.decoder import Embedded, Layer, PreNormDecoder
from pagedbench.models.layers import Parts, TokenEmbedding

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.models.weights import Weights
    from pagedbench.ops.interface import Ops
    from pagedbench.simulation.shapes import ModelShape

POSITION_OFFSET = 2
"""The first rows of the position table stand for padding and are never used."""

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh"}
"""Activations of OPT configs, and what `ops.linear` calls them."""


@dataclass(frozen=True, slots=True)
class OPTSettings:
    """How models of the OPT family differ, besides their shape."""

    activation: str = "relu"
    bias: bool = True
    norm_affine: bool = True

    @classmethod
    def of(cls, config: Any) -> OPTSettings | None:
        """Read a transformers `OPTConfig`; None for variants that are not computed here (opt-350m)."""
        is_ours = (
            config.do_layer_norm_before
            and config.word_embed_proj_dim == config.hidden_size
            and not config._remove_final_layer_norm
            and config.activation_function in ACTIVATIONS
        )
        if not is_ours:
            return None
        return cls(config.activation_function, config.enable_bias, config.layer_norm_elementwise_affine)


class OPTModel(PreNormDecoder):
    """A model of the OPT family."""

    def __init__(self, shape: ModelShape, settings: OPTSettings, weights: Weights, ops: Ops) -> None:
        name, hidden, parts = "model.decoder", shape.hidden_size, Parts(weights, ops)
        self.shape, self.ops = shape, ops
        num_positions = shape.max_model_len + POSITION_OFFSET
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # each tensor is read by one
            rows = threads.submit(parts.table, f"{name}.embed_tokens.weight", shape)
            layers = threads.map(lambda i: _layer(i, shape, settings, parts), range(shape.num_layers))
            positions = weights.tensor(f"{name}.embed_positions.weight", num_positions, hidden)
            self.position_embedding = positions[POSITION_OFFSET:]
            (table, head), self.layers = rows.result(), list(layers)
        self.embed_tokens = TokenEmbedding(table)
        affine = settings.norm_affine
        self.final_norm = parts.layer_norm(f"{name}.final_layer_norm", hidden, affine=affine)
        self.head = head or parts.linear({"lm_head": shape.vocab_size}, hidden, bias=False)

    def embed(self, token_ids: Tensor, positions: Tensor) -> Embedded:
        hidden = self.embed_tokens(token_ids)  # [num_tokens, hidden_size]
        delta = F.embedding(positions, self.position_embedding)
        return Embedded(hidden, delta, rotation=None)


def _layer(index: int, shape: ModelShape, settings: OPTSettings, parts: Parts) -> Layer:
    name, hidden, bias = f"model.decoder.layers.{index}", shape.hidden_size, settings.bias
    affine, activation = settings.norm_affine, ACTIVATIONS[settings.activation]
    heads_len = shape.num_heads * shape.head_dim
    projections = {f"{name}.self_attn.{part}_proj": heads_len for part in "qkv"}
    return Layer(
        index,
        shape,
        attention_norm=parts.layer_norm(f"{name}.self_attn_layer_norm", hidden, affine=affine),
        qkv=parts.linear(projections, hidden, bias=bias),
        out=parts.linear({f"{name}.self_attn.out_proj": hidden}, heads_len, bias=bias),
        ffn_norm=parts.layer_norm(f"{name}.final_layer_norm", hidden, affine=affine),
        up=parts.linear({f"{name}.fc1": shape.ffn_size}, hidden, bias=bias, activation=activation),
        down=parts.linear({f"{name}.fc2": hidden}, shape.ffn_size, bias=bias),
    )
