"""Models by way of transformers' code: which ones, with which weights, and what is refused by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from models.architectures import ARCHITECTURES, make_folder
from models.folders import make_llama_folder, make_opt_folder
from pagedbench.memory.layer_group import ALL_LAYERS, LayerGroup
from pagedbench.models.general import GeneralModel
from pagedbench.models.llama import LLaMAModel
from pagedbench.models.loader import ModelError, load_model, load_shape
from pagedbench.models.modules import GatedFeedForward, PackedLinear, SharedPart
from pagedbench.models.norms import NormFormula, PackedNorm, formula_of
from pagedbench.models.opt import OPTModel
from pagedbench.models.packed_attention import PackedAttention
from pagedbench.ops.select import select_ops

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread")

REFERENCE = select_ops("cpu", "reference")


def write_config(path: Path, name: str, **settings: object) -> str:
    """A folder with nothing but a config; returns its name."""
    from transformers import AutoConfig

    AutoConfig.for_model(name, **settings).save_pretrained(path)
    return str(path)


def parameters_of(model: GeneralModel) -> dict[str, torch.Tensor]:
    return dict(model._body.named_parameters())


def test_our_own_layers_come_first(tmp_path: Path) -> None:
    opt, llama = make_opt_folder(tmp_path / "opt"), make_llama_folder(tmp_path / "llama")
    assert isinstance(load_model(str(opt)).model, OPTModel)
    assert isinstance(load_model(str(llama)).model, LLaMAModel)
    assert isinstance(load_model(str(opt), general=True).model, GeneralModel)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("opt", {"do_layer_norm_before": False}),
        ("opt", {"activation_function": "gelu_fast"}),
        ("llama", {"hidden_act": "gelu"}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
    ],
)
def test_variants_that_our_own_layers_do_not_compute(tmp_path: Path, family: str, fields) -> None:
    folder = (make_opt_folder if family == "opt" else make_llama_folder)(tmp_path)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    assert isinstance(load_model(str(folder)).model, GeneralModel)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("t5", r"is an encoder or has one \(t5\), which cannot run here"),
        ("mamba", "has layers with a state instead of keys and values"),
        ("jamba", "has layers with a state"),
        ("deepseek_v3", "one compressed vector per token instead of keys and values .kv_lora_rank: MLA"),
        ("gemma3n_text", "has layers that share their keys and values"),
        ("qwen3_next", "has layers"),
        ("llama4_text", "a chunk of tokens instead of a window"),
        ("mllama_text_model", "attend only to images"),
    ],
)
def test_architectures_that_are_refused_by_their_configs(tmp_path: Path, name: str, reason: str) -> None:
    folder = write_config(tmp_path / name, name)
    for load in (load_model, load_shape):
        with pytest.raises(ModelError, match=reason) as error:
            load(folder)
        assert "\n" not in str(error.value)


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("bloom", {"n_layer": 2, "n_head": 4, "hidden_size": 32, "vocab_size": 99}, "takes no positions"),
        ("falcon", {**SMALL, "alibi": True}, "ALiBi"),
        ("falcon", {**SMALL, "alibi": False}, "cannot make a falcon model that takes our attention"),
        ("xglm", {"d_model": 32, "num_layers": 2, "attention_heads": 4, "vocab_size": 99}, "0 times in 2"),
    ],
)
def test_architectures_that_are_refused_when_they_run(tmp_path: Path, name, settings, reason) -> None:
    """Before any request does: a first pass shows how they compute attention."""
    folder = write_config(tmp_path / name, name, **settings)
    with pytest.raises(ModelError, match=reason) as error:
        load_model(folder, load_format="dummy")
    assert "\n" not in str(error.value)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "qwen3")
    path = folder / "config.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}))
    with pytest.raises(ModelError, match=r"lack the tensor model\.layers\.2"):
        load_model(str(folder))
    path.write_text(json.dumps(fields | {"vocab_size": 77}))
    with pytest.raises(ModelError, match=r"transformers cannot load|another shape"):
        load_model(str(folder))


def test_the_seed_alone_decides_random_weights(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "gemma2")
    (folder / "model.safetensors").unlink()
    states = torch.linspace(-1, 1, 64).view(2, 32)
    logits = []
    for seed in (3, 3, 4):
        loaded = load_model(str(folder), load_format="dummy", seed=seed, std=0.3, ops=REFERENCE)
        assert loaded.weights == "dummy (seeded random)"
        embedding = parameters_of(loaded.model)["embed_tokens.weight"]
        assert embedding.std().item() == pytest.approx(0.3, rel=0.05)
        logits.append(loaded.model.logits(states))
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


@pytest.mark.parametrize("name", ["gemma2", "olmo2", "gpt2", "cohere2"])
def test_random_norms_are_the_identity(tmp_path: Path, name: str) -> None:
    """Also where weights are stored around 0."""
    folder = make_folder(tmp_path, name)
    model = load_model(str(folder), load_format="dummy", ops=REFERENCE).model
    norms = [module for module in model._body.modules() if isinstance(module, PackedNorm)]
    assert len(norms) >= 3
    assert all(torch.equal(norm._weight, torch.ones_like(norm._weight)) for norm in norms)


@pytest.mark.parametrize("name", ["qwen3", "gpt2", "gpt_neox", "opt", "phi3", "gemma2"])
def test_every_product_and_norm_is_ours(tmp_path: Path, name: str) -> None:
    """Of the checkpoint only the embeddings are left beside the packed copies: memory does not double."""
    model = load_model(str(make_folder(tmp_path, name)), general=True).model
    assert isinstance(model, GeneralModel)
    modules = list(model._body.modules())
    assert not any(isinstance(module, nn.Linear | nn.LayerNorm) for module in modules)
    assert not any("Norm" in type(module).__name__ for module in modules if type(module) is not PackedNorm)
    assert all("embed" in key or "wte" in key or "wpe" in key for key in parameters_of(model))


def test_products_of_one_input_are_one(tmp_path: Path) -> None:
    model = load_model(str(make_folder(tmp_path, "stablelm"))).model
    layer = model._body.layers[0]
    assert isinstance(layer.self_attn.q_proj, SharedPart)
    assert layer.self_attn.q_proj._shared is layer.self_attn.v_proj._shared
    assert isinstance(layer.mlp, GatedFeedForward)


@pytest.mark.parametrize(
    ("name", "rotates", "norms"),
    [
        ("qwen3", [True, True], 2),
        ("smollm3", [True, False], 0),
        ("cohere2", [False], 0),  # the other layer turns neighbours, not halves
        ("olmo2", [True, True], 2),
        ("phi", [], 0),  # a part of each head
        ("ministral3", [], 0),  # scales late queries
        ("gpt_neox", [], 0),
    ],
)
def test_attention_in_one_product(tmp_path: Path, name: str, rotates: list[bool], norms: int) -> None:
    """Where the module is seen to project, norm and rotate, and to do nothing else."""
    model = load_model(str(make_folder(tmp_path, name))).model
    packed = [module for module in model._body.modules() if isinstance(module, PackedAttention)]
    assert [module._angles is not None for module in packed] == rotates
    assert all(sum(norm is not None for norm in module._norms) == norms for module in packed)


def test_an_activation_is_part_of_its_product(tmp_path: Path) -> None:
    layer = load_model(str(make_folder(tmp_path, "gpt2"))).model._body.h[0]
    assert isinstance(layer.mlp.act, nn.Identity)
    assert isinstance(layer.mlp.c_fc, PackedLinear)


def test_windows_of_layers(tmp_path: Path) -> None:
    assert load_shape(str(make_folder(tmp_path / "a", "mistral"))).layer_groups == (LayerGroup(window=9),)
    assert load_shape(str(make_folder(tmp_path / "b", "gemma3_text"))).layer_groups == (
        LayerGroup((2,)),
        LayerGroup((0, 1, 3), 9),
    )
    assert load_shape(str(make_folder(tmp_path / "c", "qwen2"))).layer_groups == (ALL_LAYERS,)


def test_a_window_that_the_config_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is planned by the config; a layer that computes something else is refused."""
    from pagedbench.simulation import config_shapes

    monkeypatch.setattr(config_shapes, "layer_groups", lambda *_: (ALL_LAYERS,))
    with pytest.raises(ModelError, match="layer 0 of mistral has the heads, sizes and window"):
        load_model(str(make_folder(tmp_path / "mistral", "mistral")))


class Odd(nn.Module):
    """Looks like a norm of ours, and divides by the largest element."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(8)), 1e-6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / (x.abs().amax(-1, keepdim=True) + self.eps) * self.weight


def test_a_mask_of_the_models_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flat batch has no place for it, and leaving it out would give other tokens."""
    from transformers.models.gpt_neox import modeling_gpt_neox

    folder = make_folder(tmp_path / "model", "gpt_neox")
    monkeypatch.setattr(modeling_gpt_neox, "create_causal_mask", lambda **_: torch.zeros(1, 1, 2, 2))
    with pytest.raises(ModelError, match=r"cannot run on a flat batch: .*is given a mask"):
        load_model(str(folder))


def test_formulas_of_norms() -> None:
    from transformers.models.cohere.modeling_cohere import CohereLayerNorm
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

    assert formula_of(Qwen3RMSNorm(16, 1e-6)) == NormFormula(False, 1e-6, 0.0)
    assert formula_of(Gemma2RMSNorm(16, 1e-5)) == NormFormula(False, 1e-5, 1.0)
    assert formula_of(CohereLayerNorm(16, 1e-5)) == NormFormula(True, 1e-5, 0.0)
    assert formula_of(nn.LayerNorm(16, 1e-3)) == NormFormula(True, 1e-3, 0.0)
    assert formula_of(Odd()) is None
    assert formula_of(nn.Linear(4, 4)) is None


def test_long_rotary_embeddings_stop_where_they_change(tmp_path: Path) -> None:
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    settings = {**SMALL, "intermediate_size": 48, "pad_token_id": None, "eos_token_id": None}
    settings |= {"max_position_embeddings": 128, "original_max_position_embeddings": 32}
    folder = write_config(tmp_path / "phi3", "phi3", rope_parameters=rope, **settings)
    assert load_shape(folder).max_model_len == 32


def test_architectures_of_the_issue() -> None:
    named = "opt gpt2 gpt_neox llama llama-3 qwen2 qwen3 mistral mixtral phi3 gemma2 gemma3_text gpt_oss"
    assert {*named.split(), "smollm3", "olmo2"} <= set(ARCHITECTURES)


def test_the_text_of_a_model_that_sees_images(tmp_path: Path) -> None:
    """With its weights and with random ones; what sees images is dropped."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = Gemma3Config(
        text_config={**SMALL, **ARCHITECTURES["gemma3_text"], "intermediate_size": 48},
        vision_config=vision | {"image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    for load_format in ("auto", "dummy"):
        loaded = load_model(str(tmp_path), load_format=load_format)
        assert (loaded.shape.num_layers, loaded.shape.head_dim) == (4, 16)
        assert [group.window for group in loaded.shape.layer_groups] == [None, 9]
        assert loaded.model.logits(torch.randn(3, 32)).shape == (3, 99)
        assert loaded.model.greedy(torch.randn(3, 32)).shape == (3,)
