"""LLaMA (Touvron et al. 2023): RMSNorm, rotary positions, grouped-query attention, SwiGLU."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pagedbench.models.decoder import Embedded, Layer, PreNormDecoder
from pagedbench.models.layers import Parts, Rotation, TokenEmbedding

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.models.weights import Weights
    from pagedbench.ops.interface import Ops
    from pagedbench.simulation.shapes import ModelShape

ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True, slots=True)
class Rope:
    """How fast each pair of dimensions rotates with the position.

    `factor` stretches positions: all of them ("linear"), or those of the slow dimensions, blended in
    between wavelengths `original_len` / `low` and `original_len` / `high` ("llama3", Llama 3.1).
    """

    theta: float = 10000.0
    kind: str = "default"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original_len: int = 8192

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> Rope | None:
        """Read a transformers config's `rope_parameters`; None for kinds that are not computed here."""
        kind = parameters.get("rope_type", "default")
        if kind not in ROPE_TYPES or parameters.get("partial_rotary_factor", 1.0) != 1.0:
            return None
        if kind == "default":
            return cls(theta=parameters["rope_theta"])
        if kind == "linear":
            return cls(theta=parameters["rope_theta"], kind=kind, factor=parameters["factor"])
        return cls(
            theta=parameters["rope_theta"],
            kind=kind,
            factor=parameters["factor"],
            low=parameters["low_freq_factor"],
            high=parameters["high_freq_factor"],
            original_len=parameters["original_max_position_embeddings"],
        )

    def frequencies(self, head_dim: int) -> Tensor:
        """Radians per position, in float32.  # [head_dim / 2]"""
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
        frequency = 1.0 / (self.theta**exponents)
        if self.kind == "default":
            return frequency
        if self.kind == "linear":
            return frequency / self.factor
        wavelength = 2 * math.pi / frequency
        share = (self.original_len / wavelength - self.low) / (self.high - self.low)
        share = share.clamp(0.0, 1.0)  # 1: fast, kept; 0: slow, stretched
        return (1 - share) * frequency / self.factor + share * frequency


@dataclass(frozen=True, slots=True)
class LLaMASettings:
    """How models of the LLaMA family differ, besides their shape."""

    norm_epsilon: float = 1e-6
    rope: Rope = Rope()
    attention_bias: bool = False
    mlp_bias: bool = False

    @classmethod
    def of(cls, config: Any) -> LLaMASettings | None:
        """Read a transformers `LlamaConfig`; None for variants that are not computed here."""
        rope = Rope.of(config.rope_parameters)
        if config.hidden_act != "silu" or rope is None:
            return None
        return cls(config.rms_norm_eps, rope, config.attention_bias, config.mlp_bias)


class LLaMAModel(PreNormDecoder):
    """A model of the LLaMA family."""

    def __init__(self, shape: ModelShape, settings: LLaMASettings, weights: Weights, ops: Ops) -> None:
        hidden, parts = shape.hidden_size, Parts(weights, ops)
        self.shape, self.ops = shape, ops
        frequencies = settings.rope.frequencies(shape.head_dim)  # [head_dim / 2]
        angles = torch.arange(shape.max_model_len)[:, None] * frequencies  # [max_model_len, head_dim / 2]
        self.cosines, self.sines = angles.cos().to(weights.device), angles.sin().to(weights.device)
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # each tensor is read by one
            rows = threads.submit(parts.table, "model.embed_tokens.weight", shape)
            layers = threads.map(lambda i: _layer(i, shape, settings, parts), range(shape.num_layers))
            (table, head), self.layers = rows.result(), list(layers)
        self.embed_tokens = TokenEmbedding(table)
        self.final_norm = parts.rms_norm("model.norm", hidden, settings.norm_epsilon)
        self.head = head or parts.linear({"lm_head": shape.vocab_size}, hidden, bias=False)

    def embed(self, token_ids: Tensor, positions: Tensor) -> Embedded:
        hidden = self.embed_tokens(token_ids)  # [num_tokens, hidden_size]
        rotation = Rotation(self.cosines.index_select(0, positions), self.sines.index_select(0, positions))
        return Embedded(hidden, None, rotation)


def _layer(index: int, shape: ModelShape, settings: LLaMASettings, parts: Parts) -> Layer:
    name, hidden, ffn = f"model.layers.{index}", shape.hidden_size, shape.ffn_size
    queries_len, keys_len = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    attention, mlp = f"{name}.self_attn", f"{name}.mlp"
    qkv = {
        f"{attention}.q_proj": queries_len,
        f"{attention}.k_proj": keys_len,
        f"{attention}.v_proj": keys_len,
    }
    gate_up = {f"{mlp}.gate_proj": ffn, f"{mlp}.up_proj": ffn}
    epsilon, bias, mlp_bias = settings.norm_epsilon, settings.attention_bias, settings.mlp_bias
    return Layer(
        index,
        shape,
        attention_norm=parts.rms_norm(f"{name}.input_layernorm", hidden, epsilon),
        qkv=parts.linear(qkv, hidden, bias=bias),
        out=parts.linear({f"{attention}.o_proj": hidden}, queries_len, bias=bias),
        ffn_norm=parts.rms_norm(f"{name}.post_attention_layernorm", hidden, epsilon),
        up=parts.linear(gate_up, hidden, bias=mlp_bias, activation="silu_gated"),
        down=parts.linear({f"{mlp}.down_proj": hidden}, ffn, bias=mlp_bias),
    )
