"""Names of models, where weights come from, and what is said where they cannot be had."""

from __future__ import annotations

import json

import huggingface_hub
import numpy as np
import pytest
import scipy.stats
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from models.folders import load_hugging_face, make_llama_folder, make_opt_folder
from pagedbench.models import loader, weights
from pagedbench.models.loader import ModelError, load_model, load_shape
from pagedbench.models.opt import OPTModel, OPTSettings
from pagedbench.models.weights import RandomWeights
from pagedbench.ops.select import select_ops
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.simulation.shapes import ModelShape

TINY = ModelShape("tiny", "opt", 2, 32, 4, 4, 8, 64, 100, 64)


REFERENCE = select_ops("cpu", "reference")


def dense(linear):
    """The weight in rows, whatever its layout.  # [out_features, in_features]"""
    return linear.weight.to_dense() if linear.is_packed else linear.weight


def edit_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return str(folder)


def sentence(name, **options):
    """The one sentence that refuses a model."""
    with pytest.raises(ModelError) as error:
        load_model(str(name), **options)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_opt_folder(tmp_path):
    loaded = load_model(str(make_opt_folder(tmp_path / "my-opt")))
    assert loaded.shape == ModelShape("my-opt", "opt", 2, 64, 4, 4, 16, 192, 200, 256)
    assert (loaded.weights, loaded.tokenizer_path) == ("real", None)


def test_llama_folder(tmp_path):
    folder = make_llama_folder(tmp_path / "my-llama", head_dim=24, num_layers=3)
    loaded = load_model(str(folder))
    assert loaded.shape == ModelShape("my-llama", "llama", 3, 64, 4, 2, 24, 140, 200, 256, False)
    assert load_shape(str(folder)) == loaded.shape
    assert loaded.shape.num_parameters == load_hugging_face(folder).num_parameters()


def test_tokenizer_is_found(test_data):
    folder = test_data / "models" / "stories260K" / "hf"
    assert load_model(str(folder)).tokenizer_path == folder


def test_fused_projections_hold_each_weight_once(tmp_path):
    folder = make_llama_folder(tmp_path)
    stored = load_file(folder / "model.safetensors")
    layer = load_model(str(folder), ops=REFERENCE).model.layers[1]
    parts = [stored[f"model.layers.1.self_attn.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(dense(layer.qkv), torch.cat(parts))
    parts = [stored[f"model.layers.1.mlp.{part}_proj.weight"] for part in ("gate", "up")]
    assert torch.equal(dense(layer.up), torch.cat(parts))


def test_tied_head_is_the_embedding(tmp_path):
    model = load_model(str(make_opt_folder(tmp_path)), ops=REFERENCE).model
    assert torch.equal(dense(model.head), model.embed_tokens.weight)
    half = load_model(
        str(tmp_path), dtype=torch.float16, ops=REFERENCE
    ).model  # not packed: nothing is held twice
    assert half.head.weight.data_ptr() == half.embed_tokens.weight.data_ptr()


def test_shards_and_names_without_prefix(tmp_path):
    """Both are found in the wild: an index over shards, and names without "model."."""
    folder = make_opt_folder(tmp_path)
    whole = load_model(str(folder), ops=REFERENCE).model
    stored = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stored = {name.removeprefix("model."): tensor for name, tensor in stored.items()}
    names = sorted(stored)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: stored[name] for name in part}, folder / f"shard-{number}.safetensors")
        weight_map |= dict.fromkeys(part, f"shard-{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    sharded = load_model(str(folder), ops=REFERENCE).model
    assert torch.equal(dense(sharded.layers[1].qkv), dense(whole.layers[1].qkv))
    assert torch.equal(sharded.layers[0].down.bias, whole.layers[0].down.bias)


def test_dummy_needs_only_the_config(tmp_path):
    folder = make_llama_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    loaded = load_model(str(folder), load_format="dummy", seed=3, std=0.3, ops=REFERENCE)
    assert loaded.weights == "dummy (seeded random)"
    weight = dense(loaded.model.layers[0].down)
    assert weight.std().item() == pytest.approx(0.3, rel=0.05)
    assert torch.equal(loaded.model.final_norm.weight, torch.ones(64))


def test_built_in_shapes_are_dummy(monkeypatch):
    monkeypatch.setitem(BUILT_IN_SHAPES, "tiny", TINY)
    loaded = load_model("tiny", ops=REFERENCE)
    assert loaded.weights == "dummy (seeded random)"
    assert loaded.shape is TINY is load_shape("tiny")
    assert dense(loaded.model.layers[0].up).std().item() == pytest.approx(0.02, rel=0.1)


def draw(seed, dtype=torch.float32):
    model = OPTModel(TINY, OPTSettings(), RandomWeights(seed, dtype, torch.device("cpu")), REFERENCE)
    return torch.cat([model.embed_tokens.weight.flatten(), dense(model.layers[1].qkv).flatten()])


def test_the_seed_alone_decides_random_weights():
    first = draw(7)
    assert torch.equal(first, draw(7))
    assert not torch.equal(first, draw(8))
    assert torch.equal(first.bfloat16(), draw(7, torch.bfloat16))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert torch.equal(first, draw(7))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("length", [1, 7, 16, 2**16, 2**16 + 1, 2**17 + 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_random_numbers_do_not_depend_on_dtype_length_or_strides(length, dtype):
    whole = RandomWeights(3, torch.float32, torch.device("cpu")).tensor("x", 3 * 2**16)[:length].to(dtype)
    random = RandomWeights(3, dtype, torch.device("cpu"))
    assert torch.equal(random.tensor("x", length), whole)
    strided = torch.empty((length, 2), dtype=dtype)[:, 0]
    random.read("x", strided)
    assert torch.equal(strided, whole)


@pytest.mark.parametrize("length", [1, 3, 4, 2**16 + 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_random_numbers_do_not_depend_on_the_native_module(monkeypatch, length, dtype):
    pytest.importorskip("pagedbench.kernels._cpu", reason="native kernels not built", exc_type=ImportError)
    random = RandomWeights(3, dtype, torch.device("cpu"))
    native = random.tensor("x", length)
    monkeypatch.setattr(weights, "_cpu", None)
    assert torch.equal(random.tensor("x", length), native)


def test_random_numbers_are_normally_distributed():
    numbers = RandomWeights(5, torch.float32, torch.device("cpu"), std=0.5).tensor("x", 2**20).numpy()
    assert scipy.stats.kstest(numbers / 0.5, "norm").pvalue > 0.01
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 4 / 2**10


def test_no_two_random_tensors_are_equal():
    model = OPTModel(TINY, OPTSettings(), RandomWeights(0, torch.float32, torch.device("cpu")), REFERENCE)
    query, key, value = dense(model.layers[0].qkv).chunk(3)
    assert not torch.equal(query, key)
    assert not torch.equal(key, value)
    assert not torch.equal(query, dense(model.layers[1].qkv).chunk(3)[0])


def test_unknown_names():
    text = sentence("opt-13B")
    assert "did you mean opt-13b?" in text
    assert all(name in text for name in BUILT_IN_SHAPES)
    assert "did you mean" not in sentence("something-else")
    assert "unknown model './nowhere/at/all'" in sentence("./nowhere/at/all")


def test_a_folder_that_is_no_model(tmp_path):
    assert "has no config.json" in sentence(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "cannot read" in sentence(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert "names no model_type" in sentence(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt5"}')
    assert "is not a valid gpt5 config" in sentence(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": "wide"}')
    assert "is not a valid llama config" in sentence(tmp_path)


def test_pickled_weights_are_refused(tmp_path):
    folder = make_opt_folder(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    text = sentence(folder)
    assert "pickled weights" in text
    assert "--load-format dummy" in text
    (folder / "pytorch_model.bin").unlink()
    assert "holds no weights" in sentence(folder)


def test_weights_that_do_not_fit_the_config(tmp_path):
    folder = make_opt_folder(tmp_path)
    assert "lack the tensor model.decoder.layers.2." in sentence(edit_config(folder, num_hidden_layers=3))
    text = sentence(edit_config(folder, num_hidden_layers=2, vocab_size=300))
    assert "has the shape [200, 64], but config.json asks for [300, 64]" in text


def test_damaged_weights(tmp_path):
    folder = make_opt_folder(tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "download the model again" in sentence(folder)
    for text in ("{}", "[1]", '{"weight_map": []}', '{"weight_map": {"a": 3}}'):
        (folder / "model.safetensors.index.json").write_text(text)
        assert "is not an index" in sentence(folder)


def test_unknown_load_format():
    assert "use one of auto, dummy" in sentence("opt-125m", load_format="pickle")


def refuse(*_, **__):
    raise LocalEntryNotFoundError("no connection")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("facebook/opt-13b", "--model opt-13b --load-format dummy"),
        ("meta/some-model", "--model opt-125m --load-format dummy"),
    ],
)
def test_without_network(monkeypatch, name, hint):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    text = sentence(name)
    assert text.startswith(f"cannot download {name} from the hub")
    assert hint in text


def test_dummy_from_the_hub_downloads_no_weights(monkeypatch, tmp_path):
    folder = make_opt_folder(tmp_path)
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    loaded = load_model("someone/opt-tiny", load_format="dummy")
    assert (loaded.name, loaded.shape.name) == ("someone/opt-tiny", "opt-tiny")
    assert load_model("someone/opt-tiny").weights == "real"
    light, full = (set(patterns) for _, patterns in asked)
    assert not light & set(loader.WEIGHT_FILES)
    assert full == light | set(loader.WEIGHT_FILES)


@pytest.mark.parametrize(
    ("make_folder", "fields"),
    [
        (make_opt_folder, {"num_attention_heads": 5}),
        (make_opt_folder, {"num_attention_heads": 0}),
        (make_llama_folder, {"num_key_value_heads": 3}),
        (make_llama_folder, {"num_key_value_heads": 0}),
    ],
)
def test_heads_that_do_not_fit_together(tmp_path, make_folder, fields):
    name = edit_config(make_folder(tmp_path), **fields)
    text = sentence(name, load_format="dummy")
    assert "do not divide" in text or "no whole number" in text
