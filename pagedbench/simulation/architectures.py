"""Architectures: settings in a model's config that change the size of its keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.memory.layer_group import has_windows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pagedbench.memory.layer_group import LayerGroup

    Config = Mapping[str, object]

CHECKED_TYPES = (
    "apertus", "arcee", "biogpt", "bitnet", "bloom", "codegen", "cohere", "cohere2", "ctrl", "diffllama",
    "ernie4_5", "exaone4", "falcon", "flex_olmo", "gemma", "gemma2", "gemma3", "gemma3_text", "glm", "glm4",
    "glm4_moe", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe",
    "granitemoeshared", "helium", "hunyuan_v1_dense", "llama", "minimax_m2", "ministral", "ministral3",
    "mistral", "mixtral", "mpt", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt", "persimmon", "phi",
    "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm",
    "starcoder2", "vaultgemma", "xglm",
)  # fmt: skip
"""Model types whose keys and values were counted in the caches of transformers, with the same result."""

STATES = ("mamba_", "ssm_", "linear_num_", "linear_attn_", "linear_conv_", "lightning_", "rwkv", "xlstm",
          "state_size", "conv_l_cache", "retention")  # fmt: skip
"""Prefixes of fields that describe layers with a state of fixed size instead of keys and values."""

UNEQUAL_HEADS = ("swa_head", "swa_num_", "global_head", "num_global_", "block_configs", "per_layer_config")
"""Prefixes of fields that give some layers different heads."""

LAYER_KINDS = ("layer_types", "layers_block_type", "block_types", "attention_layers", "attn_layers")
FULL = ("full_attention", "attention", "full", "global")
SLIDING = ("sliding_attention", "local")
WINDOWED = (*SLIDING, "chunked_attention")
WINDOWS = ("sliding_window", "sliding_window_size", "attention_window_size", "attention_chunk_size",
           "window_size")  # fmt: skip

MULTI_QUERY_TYPES = ("falcon", "gpt_bigcode", "RefinedWebModel")
"""Model types that have one KV head unless their config says otherwise."""


def refuse_other_caches(config: Config, path: Path) -> None:
    """Refuse models that do not keep the same keys and values of every token in every layer.

    Raises:
        ConfigError: the architecture is not simulated.
    """
    reason = other_cache(config)
    if reason is not None:
        raise ConfigError(f"{path} {reason}, which is not simulated: choose another decoder")


def other_cache(config: Config) -> str | None:
    """What a model keeps instead of keys and values of one size in every layer; None: it keeps these."""
    present = {name.lower(): value for name, value in config.items() if value}
    kinds = [kind for kind in layer_kinds(config) if kind not in (*FULL, *WINDOWED)]
    model_type = str(config.get("model_type"))
    if "is_encoder_decoder" in present or "ForMaskedLM" in str(config.get("architectures")):
        return f"is an encoder or has one ({model_type})"
    if "kv_lora_rank" in present:
        return "keeps one compressed vector per token instead of keys and values (kv_lora_rank: MLA)"
    states = [name for name in present if name.startswith(STATES)]
    if states or model_type.startswith(("mamba", *STATES)):
        return f"has layers with a state instead of keys and values ({', '.join(states[:1]) or model_type})"
    if kinds:
        return f"has layers of the kind {kinds[0]!r}"
    if "num_kv_shared_layers" in present or "use_cla" in present:
        return "has layers that share their keys and values (num_kv_shared_layers)"
    if "cross_attention_layers" in present:
        return "has layers that attend only to images (cross_attention_layers)"
    return _unequal_heads(present)


def _unequal_heads(present: Config) -> str | None:
    unequal = [
        name
        for name, value in present.items()
        if name.startswith(UNEQUAL_HEADS) or (name.endswith("_per_layer") and isinstance(value, list))
    ]
    if unequal:
        return f"has other heads in some layers ({unequal[0]})"
    if present.get("v_head_dim") not in (None, present.get("head_dim")):
        return "has keys and values of different sizes (v_head_dim)"
    return None


def stated_kv_heads(config: Config, num_heads: int) -> object:
    """The number of KV heads in a config, under any of its names, unchecked.

    A config that is part of another one omits the defaults of its type, so no default is assumed there.
    """
    is_multi_query = config.get("multi_query", config.get("model_type") in MULTI_QUERY_TYPES)
    attention = _inner(config, "attn_config")
    if is_multi_query and not config.get("new_decoder_architecture"):
        return 1
    if config.get("multi_query_attention"):
        return config.get("multi_query_group_num")
    if attention.get("attn_type") == "multiquery_attention":
        return 1
    names = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
    stated = (attention.get("kv_n_heads"), *(config.get(name) for name in names))
    usual = None if "text_config" in config else num_heads
    return next((value for value in stated if value is not None), usual)


def simplification(config: Config, max_model_len: int, groups: tuple[LayerGroup, ...]) -> str:
    """The parts of a model that are simulated as simpler ones, in words; empty if there are none.

    Args:
        groups: its layer groups, with the windows that are simulated.
    """
    notes = [] if has_windows(groups) else [_window(config, max_model_len)]
    model_type = config.get("model_type")
    if model_type not in CHECKED_TYPES:
        notes.append(
            f"the model type {model_type!r} is unknown here: each layer is counted as keeping the keys and "
            "values of every token"
        )
    if quantized := _inner(config, "quantization_config").get("quant_method"):
        notes.append(f"quantized weights ({quantized}) are counted and computed in 16 bits")
    return "; ".join(filter(None, notes))


def _window(config: Config, max_model_len: int) -> str:
    kinds = layer_kinds(config)
    num_windowed = sum(kind in WINDOWED for kind in kinds)
    window = next((size for name in WINDOWS if isinstance(size := config.get(name), int)), None)
    is_off = config.get("use_sliding_window") is False or (kinds and not num_windowed)
    if is_off or (window is None and not num_windowed) or (window or 0) >= max_model_len:
        return ""
    layers = f"{num_windowed} of {len(kinds)} layers" if kinds else "layers"
    size = "a sliding window" if window is None else f"a sliding window of {window:,} tokens"
    return f"{layers} with {size} are counted as full attention: they would need less memory and time"


def layer_kinds(config: Config) -> list[str]:
    """The kind of each layer, if the config lists them."""
    lists = (config.get(name) for name in LAYER_KINDS)
    return next(([str(kind) for kind in found] for found in lists if isinstance(found, list) and found), [])


def _inner(config: Config, name: str) -> Config:
    found = config.get(name)
    return found if isinstance(found, dict) else {}
