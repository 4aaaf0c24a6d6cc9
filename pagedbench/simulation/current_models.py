"""Current models as they were published: the fields of each config.json that decide what it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model on the hub.

    Attributes:
        source: the repository of its `config.json`.
        config: the fields that transformers reads; for Gemma 3, which also sees images, the text model's.
    """

    name: str
    source: str
    config: Mapping[str, Any]


_QWEN_2 = {
    "model_type": "qwen2", "vocab_size": 152064, "hidden_act": "silu", "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0, "use_sliding_window": False, "tie_word_embeddings": False,
}  # fmt: skip

_QWEN_3 = {
    "model_type": "qwen3", "vocab_size": 151936, "max_position_embeddings": 40960, "head_dim": 128,
    "num_key_value_heads": 8, "attention_bias": False, "hidden_act": "silu", "rms_norm_eps": 1e-06,
    "rope_theta": 1000000, "use_sliding_window": False, "tie_word_embeddings": False,
}  # fmt: skip

_GEMMA_3 = {
    "model_type": "gemma3_text", "vocab_size": 262208, "max_position_embeddings": 131072,
    "sliding_window": 1024, "sliding_window_pattern": 6, "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-06, "tie_word_embeddings": True,
}  # fmt: skip

_MISTRAL = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768,
    "hidden_act": "silu", "rms_norm_eps": 1e-05, "tie_word_embeddings": False,
}  # fmt: skip

_GPT_OSS = {
    "model_type": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "num_experts_per_tok": 4,
    "max_position_embeddings": 131072, "sliding_window": 128, "attention_bias": True, "swiglu_limit": 7.0,
    "rms_norm_eps": 1e-05, "rope_theta": 150000, "tie_word_embeddings": False,
    "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                     "original_max_position_embeddings": 4096, "truncate": False},
    "quantization_config": {"quant_method": "mxfp4"},
}  # fmt: skip


def _gpt_oss(num_layers: int, num_experts: int) -> dict[str, Any]:
    kinds = ("sliding_attention", "full_attention")
    return _GPT_OSS | {
        "num_hidden_layers": num_layers,
        "num_local_experts": num_experts,
        "layer_types": [kinds[layer % 2] for layer in range(num_layers)],
    }


def _sizes(hidden: int, ffn: int, layers: int, heads: int) -> dict[str, int]:
    return {
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


PUBLISHED = {
    model.name: model
    for model in (
        PublishedModel("qwen2.5-7b", "Qwen/Qwen2.5-7B", _QWEN_2 | _sizes(3584, 18944, 28, 28)
                       | {"num_key_value_heads": 4, "max_position_embeddings": 131072}),
        PublishedModel("qwen3-0.6b", "Qwen/Qwen3-0.6B", _QWEN_3 | _sizes(1024, 3072, 28, 16)
                       | {"tie_word_embeddings": True}),
        PublishedModel("qwen3-8b", "Qwen/Qwen3-8B", _QWEN_3 | _sizes(4096, 12288, 36, 32)),
        PublishedModel("qwen3-32b", "Qwen/Qwen3-32B", _QWEN_3 | _sizes(5120, 25600, 64, 64)),
        PublishedModel("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B", _QWEN_3 | _sizes(2048, 6144, 48, 32)
                       | {"model_type": "qwen3_moe", "num_key_value_heads": 4, "num_experts": 128,
                          "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": True,
                          "decoder_sparse_step": 1, "mlp_only_layers": []}),
        PublishedModel("mistral-7b", "mistralai/Mistral-7B-v0.1", _MISTRAL
                       | {"model_type": "mistral", "sliding_window": 4096, "rope_theta": 10000.0}),
        PublishedModel("mixtral-8x7b", "mistralai/Mixtral-8x7B-v0.1", _MISTRAL
                       | {"model_type": "mixtral", "sliding_window": None, "rope_theta": 1000000.0,
                          "num_local_experts": 8, "num_experts_per_tok": 2}),
        PublishedModel("gemma-3-12b", "google/gemma-3-12b-pt", _GEMMA_3 | _sizes(3840, 15360, 48, 16)
                       | {"num_key_value_heads": 8, "head_dim": 256, "query_pre_attn_scalar": 256}),
        PublishedModel("gemma-3-27b", "google/gemma-3-27b-pt", _GEMMA_3 | _sizes(5376, 21504, 62, 32)
                       | {"num_key_value_heads": 16, "head_dim": 128, "query_pre_attn_scalar": 168}),
        PublishedModel("gpt-oss-20b", "openai/gpt-oss-20b", _gpt_oss(24, 32)),
        PublishedModel("gpt-oss-120b", "openai/gpt-oss-120b", _gpt_oss(36, 128)),
    )
}  # fmt: skip
"""The models by name. Mistral 7B is the first version: later ones have no window."""
