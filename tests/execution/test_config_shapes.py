"""Shapes from configs of any family, as transformers would read them."""

from __future__ import annotations

import json

import pytest

from models.folders import make_opt_folder
from pagedbench.config import ConfigError
from pagedbench.execution.config_shapes import shape_for_simulation
from pagedbench.execution.shapes import BUILT_IN_SHAPES

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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_local_experts": 8}, "mixture of experts"),
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
