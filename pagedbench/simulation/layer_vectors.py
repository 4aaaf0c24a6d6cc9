"""Norms and biases of a layer besides the usual two norms, by a model's type and config."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagedbench.simulation.shapes import ModelShape

QKV_BIAS_TYPES = ("qwen2", "qwen2_moe")
"""Model types with biases of queries, keys and values, which no field of the config tells."""

HEAD_NORM_TYPES = ("qwen3", "qwen3_moe", "gemma3", "gemma3_text")
"""Model types that norm each head's queries and keys."""

FOUR_NORM_TYPES = ("gemma2", "gemma3", "gemma3_text")
"""Model types that norm before and after attention and feed-forward."""


def num_vectors(config: Mapping[str, object], shape: ModelShape) -> int:
    """Parameters in the norms and biases of one layer, as `ModelShape.num_vectors` counts them.

    They are a thousandth of a model's parameters; model types that are not named here lack them.
    """
    kind = config.get("model_type")
    if not shape.is_gated:
        return 0
    number, projected = 0, (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
    if config.get("attention_bias"):
        number += projected + shape.hidden_size
    elif kind in QKV_BIAS_TYPES:
        number += projected
    if config.get("mlp_bias"):
        number += 2 * shape.ffn_size + shape.hidden_size
    number += 2 * shape.head_dim * (kind in HEAD_NORM_TYPES)
    number += 2 * shape.hidden_size * (kind in FOUR_NORM_TYPES)
    if shape.experts is not None and kind == "gpt_oss":
        # the router's and the experts' biases, and an attention sink's logit per head
        experts = shape.experts
        number += experts.number * (1 + 2 * experts.ffn_size + shape.hidden_size) + shape.num_heads
    return number + shape.hidden_size * (kind == "qwen2_moe")  # the gate of the shared expert
