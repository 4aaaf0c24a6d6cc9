"""Built-in shapes of current models against what is published of them, and against transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pagedbench.config import RunConfig
from pagedbench.memory.layer_group import LayerGroup
from pagedbench.plan import make_plan
from pagedbench.simulation.cards import CARDS, MODERN
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES, shape_for_simulation, shape_of_config
from pagedbench.simulation.current_models import PUBLISHED
from pagedbench.simulation.layer_windows import layer_groups
from pagedbench.simulation.modern import modern_costs
from simulation.batches import batch_of

PARAMETERS = {
    "llama-3.1-8b": 8.03e9, "llama-3.1-70b": 70.6e9, "qwen2.5-7b": 7.61e9, "qwen3-0.6b": 596_049_920,
    "qwen3-8b": 8.2e9, "qwen3-32b": 32.8e9, "qwen3-30b-a3b": 30.5e9, "mistral-7b": 7.24e9,
    "mixtral-8x7b": 46.7e9, "gemma-3-12b": 1.012e9 + 10.759e9, "gemma-3-27b": 1.416e9 + 25.6e9,
    "gpt-oss-20b": 20.91e9, "gpt-oss-120b": 116.83e9,
}  # fmt: skip
"""Total parameters as model cards and reports state them (Gemma 3: Table 1, embedding and the rest)."""

KV_KIB = {
    "llama-3.1-8b": 128, "llama-3.1-70b": 320, "qwen2.5-7b": 56, "qwen3-0.6b": 112, "qwen3-8b": 144,
    "qwen3-32b": 256, "qwen3-30b-a3b": 96, "mistral-7b": 128, "mixtral-8x7b": 128, "gemma-3-12b": 384,
    "gemma-3-27b": 496, "gpt-oss-20b": 48, "gpt-oss-120b": 72,
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_published(name: str) -> None:
    assert BUILT_IN_SHAPES[name].num_parameters == pytest.approx(PARAMETERS[name], rel=0.002)


@pytest.mark.parametrize("name", KV_KIB)
def test_bytes_of_a_token_in_16_bits(name: str) -> None:
    assert BUILT_IN_SHAPES[name].kv_bytes_per_token(2) == KV_KIB[name] * 1024


@pytest.mark.parametrize("name", PUBLISHED)
def test_transformers_counts_the_same_parameters(name: str) -> None:
    """Of the whole model, on no device."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {key: value for key, value in PUBLISHED[name].config.items() if key != "quantization_config"}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))
    assert BUILT_IN_SHAPES[name].num_parameters == model.num_parameters()
    assert model.config.num_hidden_layers == BUILT_IN_SHAPES[name].num_layers


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_folder_with_the_config_gives_the_same_shape(tmp_path: Path, name: str) -> None:
    """Also as transformers saves it, with all fields and the kind of each layer."""
    from transformers import AutoConfig

    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(PUBLISHED[name].config))
    assert shape_for_simulation(str(folder)) == BUILT_IN_SHAPES[name]
    AutoConfig.from_pretrained(folder).save_pretrained(folder)
    found = shape_for_simulation(str(folder))
    assert replace(found, note="") == replace(BUILT_IN_SHAPES[name], note="")  # it counts listed layers


def test_gemma_keeps_windows_in_five_of_six_layers() -> None:
    shape = BUILT_IN_SHAPES["gemma-3-12b"]
    full, windowed = shape.layer_groups
    assert full == LayerGroup(tuple(range(5, 48, 6)))
    assert (windowed.window, windowed.sinks, len(windowed.layers or ())) == (1024, 0, 40)
    layer = 384 * 1024 // 48
    assert shape.kept_kv_bytes(8192, 2) == layer * (8 * 8192 + 40 * 1024)
    assert shape.kept_kv_bytes(100, 2) == 100 * 384 * 1024


def test_windows_of_other_models() -> None:
    sink_logits_hold_no_tokens = LayerGroup(tuple(range(0, 24, 2)), window=128, sinks=0)
    assert BUILT_IN_SHAPES["gpt-oss-20b"].layer_groups[1] == sink_logits_hold_no_tokens
    assert BUILT_IN_SHAPES["mistral-7b"].layer_groups == (LayerGroup(window=4096),)
    assert BUILT_IN_SHAPES["mistral-7b"].kept_kv_bytes(8192, 2) == 4096 * 128 * 1024
    assert BUILT_IN_SHAPES["qwen3-8b"].layer_groups == (LayerGroup(),)


@pytest.mark.parametrize(
    ("fields", "windowed"),
    [
        ({"model_type": "mistral", "sliding_window": 4}, (0, 1, 2, 3)),
        ({"model_type": "mistral", "sliding_window": None}, ()),
        ({"model_type": "mistral", "sliding_window": 64}, ()),  # as long as the longest sequence
        ({"model_type": "qwen3", "sliding_window": 4, "use_sliding_window": False}, ()),
        ({"model_type": "qwen3", "sliding_window": 4, "use_sliding_window": True, "max_window_layers": 3},
         (3,)),
        ({"model_type": "gemma2", "sliding_window": 4}, (0, 2)),
        ({"model_type": "gemma3_text", "sliding_window": 4, "sliding_window_pattern": 3}, (0, 1, 3)),
        ({"model_type": "cohere2", "sliding_window": 4}, (0, 1, 2)),
        ({"model_type": "new", "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]},
         (1, 3)),
        ({"model_type": "new", "sliding_window": 4, "layer_types": 4 * ["chunked_attention"]}, ()),
    ],
)  # fmt: skip
def test_which_layers_have_windows(fields: dict[str, object], windowed: tuple[int, ...]) -> None:
    groups = layer_groups(fields, 4, 64)
    found = [group for group in groups if group.window is not None]
    layers = tuple(layer for group in found for layer in group.layers or range(4))
    assert layers == windowed
    assert sorted(layer for group in groups for layer in group.layers or range(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("card", ["h100", "mi300x"])
def test_steps_of_current_models_are_slower_than_the_card_allows(name: str, card: str) -> None:
    shape, limits = BUILT_IN_SHAPES[name], CARDS[card]
    costs = modern_costs(shape, limits, 1, "paged", MODERN)
    spans = [costs.step_time(batch_of(decodes=n, context=100 * n)) for n in (1, 8, 64, 256)]
    assert spans == sorted(spans)
    active = shape.num_layers * 3 * shape.hidden_size * shape.ffn_width
    assert spans[0] > 2 * active / limits.bandwidth
    assert costs.step_time(batch_of(4096)) > 2 * active * 4096 / limits.peak


@pytest.mark.parametrize(("name", "ranks"), [("gpt-oss-20b", 1), ("mixtral-8x7b", 2), ("gemma-3-12b", 1)])
def test_a_plan_has_room_for_tokens(name: str, ranks: int) -> None:
    plan = make_plan(RunConfig(model=name, device="sim:h100", tensor_parallel_size=ranks))
    assert plan.kv_slots > 20_000
    assert plan.cost_model is not None
    assert "modern" in plan.cost_model


def test_quantized_weights_are_counted_in_16_bits_and_it_is_said() -> None:
    assert (
        "quantized weights (mxfp4) are counted and computed in 16 bits"
        in BUILT_IN_SHAPES["gpt-oss-20b"].note
    )
    fields = dict(PUBLISHED["gpt-oss-20b"].config) | {"quantization_config": None}
    assert "quantized" not in shape_of_config(fields, Path("plain") / "config.json").note
