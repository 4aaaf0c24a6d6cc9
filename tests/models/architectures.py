"""Tiny configs of the architectures that run by way of transformers' own code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from models.folders import STD

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {
    "vocab_size": 200,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GPT2_SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "vocab_size": 200}
MOE = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
WIDE = {"head_dim": 16}  # not hidden_size / num_attention_heads
WINDOWS = ["sliding_attention", "full_attention"]

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "opt-350m": {"ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
    "gpt2": {},
    "gpt_neox": {"rotary_pct": 0.25},
    "gpt_bigcode": {**GPT2_SIZES, "multi_query": True},
    "llama": {},
    "llama-3": {"rope_parameters": LLAMA3_ROPE},
    "qwen2": {},
    "qwen3": WIDE,
    "qwen3_moe": {**WIDE, **MOE},
    "mistral": {"sliding_window": 9},
    "ministral3": {"rope_parameters": {**YARN, "llama_4_scaling_beta": 0.5}},
    "mixtral": {**MOE},
    "phi3": {"resid_pdrop": 0.0, "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    "gemma": WIDE,
    "gemma2": {**WIDE, "sliding_window": 9, "attn_logit_softcapping": 1.0, "query_pre_attn_scalar": 3},
    "gemma3_text": {**WIDE, "sliding_window": 9, "num_hidden_layers": 4, "sliding_window_pattern": 3},
    "gpt_oss": {**WIDE, "sliding_window": 9, "layer_types": WINDOWS, "rope_parameters": YARN, **MOE},
    "smollm3": {"no_rope_layers": [1, 0]},
    "olmo2": {},
    "olmo3": {"sliding_window": 9, "layer_types": WINDOWS},
    "cohere2": {"sliding_window": 9, "layer_types": WINDOWS},
    "granite": {"attention_multiplier": 0.3, "logits_scaling": 4.0, "residual_multiplier": 0.5},
    "phi": {"partial_rotary_factor": 0.5},
    "stablelm": {"use_qkv_bias": True},
    "starcoder2": {"sliding_window": 9},
}  # fmt: skip


def make_folder(path: Path, name: str, seed: int = 0) -> Path:
    """A model of the architecture with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings, family = ARCHITECTURES[name], name.split("-")[0]
    sizes = {**(GPT2_SIZES if family.startswith("gpt2") else SIZES), **settings}
    if family in ("opt", "gpt_neox"):
        del sizes["num_key_value_heads"]
    config = AutoConfig.for_model(family, **sizes)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, STD, generator=generator)
            else:  # norms, biases and sink logits: around what they are, but not all alike
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    model.save_pretrained(path)
    return path
