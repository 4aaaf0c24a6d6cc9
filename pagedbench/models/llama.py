"""LLaMA (Touvron et al. 2023): RMSNorm, rotary positions, grouped-query attention, SwiGLU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from pagedbench.models.layers import Linear, RMSNorm
from pagedbench.models.weights import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.execution.shapes import ModelShape
    from pagedbench.models.layers import Attend
    from pagedbench.models.weights import Weights

ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True, slots=True)
class Rope:
    """How fast each pair of dimensions turns with the position.

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
    def of(cls, parameters: dict[str, Any]) -> Rope:
        """Read a transformers config's `rope_parameters`.

        Raises:
            ModelError: a kind of rotary embedding that is not supported.
        """
        kind = parameters.get("rope_type", "default")
        if kind not in ROPE_TYPES or parameters.get("partial_rotary_factor", 1.0) != 1.0:
            raise ModelError(
                f"LLaMA with the rotary embedding {parameters} is not supported: use a full one "
                f"of the types {', '.join(ROPE_TYPES)}"
            )
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
    """What tells models of the LLaMA family apart, besides their shape."""

    norm_epsilon: float = 1e-6
    rope: Rope = Rope()
    attention_bias: bool = False
    mlp_bias: bool = False

    @classmethod
    def of(cls, config: Any) -> LLaMASettings:
        """Read a transformers `LlamaConfig`.

        Raises:
            ModelError: the config asks for a variant that is not supported.
        """
        if config.hidden_act != "silu":
            raise ModelError(f"LLaMA with the activation {config.hidden_act} is not supported: use silu")
        rope = Rope.of(config.rope_parameters)
        return cls(config.rms_norm_eps, rope, config.attention_bias, config.mlp_bias)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn the pairs (i, i + head_dim / 2) of every head by the token's angles.

    Args:
        x: [num_tokens, num_heads, head_dim]
        cosine, sine: [num_tokens, 1, head_dim / 2]
    """
    first, second = x.chunk(2, dim=-1)  # [num_tokens, num_heads, head_dim / 2] each
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


class LLaMALayer:
    """Attention and feed-forward, each behind a norm and added to the residual stream."""

    def __init__(self, index: int, shape: ModelShape, settings: LLaMASettings, weights: Weights) -> None:
        name, hidden, ffn = f"model.layers.{index}", shape.hidden_size, shape.ffn_size
        heads, kv_heads, size = shape.num_heads, shape.num_kv_heads, shape.head_dim
        attention, mlp = f"{name}.self_attn", f"{name}.mlp"
        qkv = {
            f"{attention}.q_proj": heads * size,
            f"{attention}.k_proj": kv_heads * size,
            f"{attention}.v_proj": kv_heads * size,
        }
        epsilon, bias, mlp_bias = settings.norm_epsilon, settings.attention_bias, settings.mlp_bias
        self.index = index
        self.num_heads, self.num_kv_heads, self.head_dim = heads, kv_heads, size
        self.attention_norm = RMSNorm(weights.tensor(f"{name}.input_layernorm.weight", hidden), epsilon)
        self.qkv = Linear.load(weights, qkv, hidden, bias=bias)
        self.out = Linear.load(weights, {f"{attention}.o_proj": hidden}, heads * size, bias=bias)
        self.ffn_norm = RMSNorm(weights.tensor(f"{name}.post_attention_layernorm.weight", hidden), epsilon)
        self.gate_up = Linear.load(
            weights, {f"{mlp}.gate_proj": ffn, f"{mlp}.up_proj": ffn}, hidden, bias=mlp_bias
        )
        self.down = Linear.load(weights, {f"{mlp}.down_proj": hidden}, ffn, bias=mlp_bias)

    def forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor, attend: Attend) -> Tensor:
        """One layer.

        Args:
            hidden: [num_tokens, hidden_size], replaced in place.
            cosine, sine: [num_tokens, 1, head_dim / 2]
        """
        heads, kv_heads = self.num_heads, self.num_kv_heads
        qkv = self.qkv(
            self.attention_norm(hidden)
        )  # [num_tokens, (num_heads + 2 * num_kv_heads) * head_dim]
        qkv = qkv.view(-1, heads + 2 * kv_heads, self.head_dim)
        rotated = rotate(qkv[:, : heads + kv_heads], cosine, sine)  # queries and keys alike
        query, key = rotated.split((heads, kv_heads), dim=1)  # [num_tokens, num_(kv_)heads, head_dim]
        attention = attend(self.index, query, key, qkv[:, heads + kv_heads :])
        hidden += self.out(attention.flatten(1))
        gate, up = self.gate_up(self.ffn_norm(hidden)).chunk(2, dim=-1)  # [num_tokens, ffn_size] each
        hidden += self.down(F.silu(gate) * up)
        return hidden


class LLaMAModel:
    """A model of the LLaMA family. See `Decoder`."""

    def __init__(self, shape: ModelShape, settings: LLaMASettings, weights: Weights) -> None:
        hidden = shape.hidden_size
        self.shape = shape
        self.frequencies = settings.rope.frequencies(shape.head_dim).to(weights.device)  # [head_dim / 2]
        self.token_embedding = weights.tensor("model.embed_tokens.weight", shape.vocab_size, hidden)
        self.layers = [LLaMALayer(index, shape, settings, weights) for index in range(shape.num_layers)]
        self.final_norm = RMSNorm(weights.tensor("model.norm.weight", hidden), settings.norm_epsilon)
        if shape.tied_embeddings:
            self.head = Linear.of(self.token_embedding)
        else:
            self.head = Linear.load(weights, {"lm_head": shape.vocab_size}, hidden, bias=False)

    def forward(self, token_ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        hidden = F.embedding(token_ids, self.token_embedding)  # [num_tokens, hidden_size]
        angles = positions[:, None, None].float() * self.frequencies  # [num_tokens, 1, head_dim / 2]
        cosine, sine = angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)
        for layer in self.layers:
            hidden = layer.forward(hidden, cosine, sine, attend)
        return hidden

    def logits(self, hidden_rows: Tensor) -> Tensor:
        return self.head(self.final_norm(hidden_rows))  # [num_rows, vocab_size]
