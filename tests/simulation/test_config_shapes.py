"""Shapes from configs of any family, as transformers would read them."""

from __future__ import annotations

import json

import pytest

from models.folders import make_opt_folder
from pagedbench.config import ConfigError
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES, shape_for_simulation

QWEN = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024,
        "vocab_size": 50257, "n_inner": None}  # fmt: skip


def shape_of(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    return shape_for_simulation(str(folder))


def test_built_in_names_need_no_folder():
    assert shape_for_simulation("opt-13b") is BUILT_IN_SHAPES["opt-13b"]


def test_a_gated_family_with_few_kv_heads(tmp_path):
    shape = shape_of(tmp_path, QWEN)
    assert (shape.family, shape.num_kv_heads, shape.head_dim, shape.tied_embeddings) == (
        "llama", 4, 128, False,
    )  # fmt: skip
    assert shape.num_parameters == pytest.approx(7.6e9, rel=0.01)  # as its model card says


def test_an_older_family_with_other_names(tmp_path):
    shape = shape_of(tmp_path, GPT2)
    assert (shape.family, shape.num_layers, shape.ffn_size, shape.max_model_len) == ("opt", 12, 3072, 1024)
    assert shape.num_parameters == pytest.approx(124e6, rel=0.01)


def test_a_folder_that_the_loader_reads_gives_the_same_shape(tmp_path):
    from pagedbench.models.loader import load_shape

    folder = make_opt_folder(tmp_path / "opt")
    assert shape_for_simulation(str(folder)) == load_shape(str(folder))


CHUNKED = {
    "attention_chunk_size": 4096,
    "layer_types": 4 * ["chunked_attention", "chunked_attention", "full"],
}
LAYERS = {"full": 12 * ["full_attention"], "windows": 4 * [*(2 * ["sliding_attention"]), "full_attention"]}


@pytest.mark.parametrize(
    ("config", "num_kv_heads"),
    [
        ({"model_type": "falcon", "multi_query": True, "num_kv_heads": 28}, 1),
        ({"model_type": "falcon", "num_kv_heads": 28}, 1),  # its type's default
        ({"model_type": "falcon", "multi_query": False, "num_kv_heads": 28}, 28),
        ({"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 4}, 4),
        ({"model_type": "RefinedWeb", "n_head_kv": 4}, 4),
        ({"model_type": "gpt_bigcode", "multi_query": True}, 1),
        ({"model_type": "gpt_bigcode", "multi_query": False}, 28),
        ({"model_type": "chatglm", "multi_query_attention": True, "multi_query_group_num": 2}, 2),
        ({"model_type": "mpt", "attn_config": {"attn_type": "multiquery_attention"}}, 1),
        ({"model_type": "mpt", "attn_config": {"attn_type": "multihead_attention"}}, 28),
        ({"model_type": "llama"}, 28),
    ],
)  # fmt: skip
def test_kv_heads_under_every_name(tmp_path, config, num_kv_heads):
    shape = shape_of(tmp_path, QWEN | {"num_key_value_heads": None} | config)
    assert shape.num_kv_heads == num_kv_heads
    assert shape.kv_bytes_per_token(2) == 2 * 28 * num_kv_heads * 128 * 2


@pytest.mark.parametrize(
    "model_type",
    [
        "falcon",
        "gpt_bigcode",
        "gpt2",
        "bloom",
        "opt",
        "mistral",
        "gemma2",
        "gemma3_text",
        "cohere2",
        "phi3",
        "mixtral",
        "qwen3_moe",
        "gpt_oss",
    ],
)
def test_caches_that_transformers_fills(tmp_path, model_type):
    """Elements a token in the cache of a tiny model of the type."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
             "intermediate_size": 96, "head_dim": 24, "ffn_dim": 96, "word_embed_proj_dim": 64,
             "n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 64, "bos_token_id": 1,
             "eos_token_id": 1, "pad_token_id": 1}  # fmt: skip
    kind = CONFIG_MAPPING[model_type]
    known = {*kind().to_dict(), *kind.attribute_map}
    sizes = {name: size for name, size in sizes.items() if name in known and name not in kind.attribute_map}
    config = kind(**sizes)
    config.save_pretrained(tmp_path)
    with torch.no_grad():
        filled = AutoModelForCausalLM.from_config(config)(torch.arange(5)[None], use_cache=True)
    cached = [tensor for layer in filled.past_key_values.layers for tensor in (layer.keys, layer.values)]
    shape = shape_for_simulation(str(tmp_path))
    assert 5 * shape.kv_bytes_per_token(1) == sum(tensor.numel() for tensor in cached)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, ""),
        ({"sliding_window": 4096, "use_sliding_window": False}, ""),
        ({"sliding_window": 32768}, ""),  # nothing is ever outside
        ({"sliding_window": 4096, "layer_types": LAYERS["full"]}, ""),
        ({"sliding_window": 4096}, ""),  # a layer group
        ({"sliding_window": 4096, "layer_types": LAYERS["windows"]}, ""),
        ({"sliding_window_size": 4096}, "layers with a sliding window of 4,096 tokens are counted as full"),
        (CHUNKED, "8 of 12 layers with a sliding window of 4,096 tokens are counted as full"),
        ({"model_type": "new"}, "the model type 'new' is unknown here"),
    ],
)  # fmt: skip
def test_what_is_counted_as_something_else_is_said(tmp_path, changes, note):
    shape = shape_of(tmp_path, QWEN | changes)
    assert shape.note.startswith(note)
    assert bool(shape.note) == bool(note)


def test_header_and_manifest_say_what_is_counted_as_something_else(tmp_path):
    from pagedbench.config import RunConfig
    from pagedbench.plan import make_plan
    from pagedbench.runs.manifest import plan_facts
    from pagedbench.show.header import header_rows

    shape = shape_of(tmp_path, QWEN | CHUNKED)
    plan = make_plan(RunConfig(model=str(tmp_path), device="sim:a100-80gb"))
    assert dict(header_rows([plan], []))["Counted"] == shape.note
    assert plan_facts(plan)["model_counted"] == shape.note


def test_a_part_of_another_config_leaves_out_defaults(tmp_path):
    """Gemma 3 has 8 heads of its hidden size of 2560, and 4 KV heads of 256: no field says so."""
    inner = QWEN | {"model_type": "gemma3_text", "head_dim": 256}
    assert shape_of(tmp_path, {"text_config": inner}).head_dim == 256
    for missing in ("head_dim", "num_key_value_heads"):
        with pytest.raises(ConfigError, match=missing):
            shape_of(tmp_path, {"text_config": inner | {missing: None}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_encoder_decoder": True, "model_type": "t5"}, r"an encoder or has one \(t5\)"),
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, r"an encoder or has one \(bert\)"),
        ({"kv_lora_rank": 512}, "MLA"),
        ({"mamba_d_state": 16}, "a state instead of keys and values .mamba_d_state"),
        ({"model_type": "mamba2", "state_size": 128}, "a state instead"),
        ({"model_type": "rwkv"}, "a state instead of keys and values .rwkv"),
        ({"linear_num_value_heads": 32}, "a state instead"),
        ({"conv_L_cache": 3}, "a state instead"),
        ({"block_types": ["recurrent", "attention"]}, "layers of the kind 'recurrent'"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "layers of the kind 'linear_attention'"),
        ({"num_kv_shared_layers": 10}, "share their keys and values"),
        ({"cross_attention_layers": [3, 8]}, "attend only to images"),
        ({"swa_num_key_value_heads": 8}, "other heads in some layers"),
        ({"num_attention_heads_per_layer": [28, 14]}, "other heads in some layers"),
        ({"v_head_dim": 64, "head_dim": 128}, "different sizes"),
        ({"num_key_value_heads": [4, 4, 2]}, "num_key_value_heads differs from layer to layer"),
        ({"head_dim": [128, 64]}, "head_dim differs from layer to layer"),
        ({"num_key_value_heads": "four"}, "no whole number 'num_key_value_heads'"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers"),
        ({"num_key_value_heads": 5}, "do not divide"),
    ],
)
def test_configs_that_cannot_be_simulated(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        shape_of(tmp_path, QWEN | changes)


def test_no_folder_and_no_json(tmp_path):
    with pytest.raises(ConfigError, match="unknown model 'nothing'"):
        shape_for_simulation("nothing")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot read"):
        shape_for_simulation(str(tmp_path))
