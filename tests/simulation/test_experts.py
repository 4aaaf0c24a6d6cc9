"""Experts in configs, in parameters, and in the times of today's engine."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pagedbench.config import ConfigError
from pagedbench.simulation.cards import CARDS, MODERN
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES, shape_of_config
from pagedbench.simulation.expert_times import ExpertTimes, num_hit
from pagedbench.simulation.experts import Experts
from pagedbench.simulation.memory_plan import plan_memory
from pagedbench.simulation.modern import modern_costs
from pagedbench.simulation.modern_times import TIMES
from pagedbench.simulation.step_times import step_times_of
from simulation.batches import batch_of

PLACE = Path("model") / "config.json"
DENSE = {
    "model_type": "qwen3", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 128,
    "max_position_embeddings": 256, "tie_word_embeddings": True,
}  # fmt: skip
SPARSE = DENSE | {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
MIXTRAL, H100 = BUILT_IN_SHAPES["mixtral-8x7b"], CARDS["h100"]
EXACT = ExpertTimes(0.0, 1.0, 1.0, 1.0, 60.0, 0.0, 1e9)
"""No overhead, whole rows, and almost a maximum instead of a sum."""


@pytest.mark.parametrize(
    ("fields", "experts"),
    [
        ({}, Experts(8, 2, 32)),
        ({"moe_intermediate_size": None}, Experts(8, 2, 96)),  # as Mixtral says it
        ({"num_experts": None, "n_routed_experts": 8, "n_shared_experts": 3, "first_k_dense_replace": 2},
         Experts(8, 2, 32, shared_ffn_size=96, num_dense_layers=2)),
        ({"n_routed_experts": 8, "moe_layer_freq": 2, "first_k_dense_replace": 1},
         Experts(8, 2, 32, num_dense_layers=4)),
        ({"moe_layer_freq": [0, 1, 1, 1, 1, 1]}, Experts(8, 2, 32, num_dense_layers=1)),
        ({"shared_expert_intermediate_size": 48, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
         Experts(8, 2, 32, shared_ffn_size=48, num_dense_layers=4)),
        ({"mlp_layer_types": ["dense", *(5 * ["sparse"])]}, Experts(8, 2, 32, num_dense_layers=1)),
        ({"num_experts": None, "num_experts_per_tok": None, "moe_intermediate_size": None,
          "ffn_config": {"moe_num_experts": 16, "moe_top_k": 4, "ffn_hidden_size": 24}},
         Experts(16, 4, 24)),  # as DBRX says it
    ],
)  # fmt: skip
def test_experts_under_every_name(fields: dict[str, object], experts: Experts) -> None:
    assert shape_of_config(SPARSE | fields, PLACE).experts == experts


@pytest.mark.parametrize("number", [0, 1, None])
def test_one_expert_is_a_feed_forward(number: int | None) -> None:
    """The same shape, so the same parameters and times."""
    assert shape_of_config(DENSE | {"num_experts": number}, PLACE) == shape_of_config(DENSE, PLACE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_experts_per_tok": None}, "no whole number 'num_experts_per_tok'"),
        ({"num_experts_per_tok": 9}, "9 of 8 experts per token"),
        ({"mlp_only_layers": list(range(6))}, "in all but 6 of 6 layers is impossible"),
        ({"num_experts": [8, 4]}, "number of experts differs from layer to layer"),
        ({"interleave_moe_layer_step": 2}, "says with interleave_moe_layer_step which layers have experts"),
        ({"first_k_dense_replace": -1}, "first_k_dense_replace -1 is not a whole number"),
        ({"n_shared_experts": [1, 2]}, "no whole number 'n_shared_experts'"),
    ],
)
def test_experts_that_cannot_be_simulated(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shape_of_config(SPARSE | fields, PLACE)


def test_parameters_count_every_expert_and_ranks_share_each() -> None:
    fields = {"shared_expert_intermediate_size": 48, "mlp_only_layers": [0]}
    shape, dense = shape_of_config(SPARSE | fields, PLACE), shape_of_config(DENSE, PLACE)
    matrices = 3 * 64 * (8 * 32 + 48 - 96)
    assert shape.num_divisible_parameters - dense.num_divisible_parameters == 5 * matrices
    routers = 5 * 64 * 8
    assert shape.num_parameters - dense.num_parameters == 5 * matrices + routers
    assert plan_memory(MIXTRAL, H100.memory, 2, 0.9).parameters < 1.001 * 2 * MIXTRAL.num_parameters


def test_tokens_hit_as_many_experts_as_they_choose_and_then_all() -> None:
    hit = num_hit(np.array([1.0, 2.0, 1e4]), 8, 2)
    assert hit == pytest.approx([2, 8 * (1 - 0.75**2), 8])


def test_few_tokens_take_the_bytes_of_what_they_hit_and_many_their_operations() -> None:
    few, many = EXACT.seconds(np.array([1.0, 1e5]), 4096, 14336, 8, 2, H100)
    matrices = 3 * 4096 * 14336
    assert few == pytest.approx(2 * 2 * matrices / H100.bandwidth, rel=0.02)
    assert many == pytest.approx(2 * matrices * 2 * 1e5 / H100.peak, rel=0.02)


@pytest.mark.parametrize("card", TIMES)
@pytest.mark.parametrize(
    "sizes", [(4096, 14336, 8, 2), (4096, 7168, 8, 2), (2048, 768, 128, 8), (2880, 2880, 32, 4)]
)
def test_more_tokens_never_take_less(card: str, sizes: tuple[int, int, int, int]) -> None:
    seconds = TIMES[card].experts.seconds(np.arange(1.0, 8193.0), *sizes, CARDS[card])
    assert (np.diff(seconds) > 0).all()


def step(shape, batch, ranks: int = 1) -> float:
    return modern_costs(shape, H100, ranks, "paged", MODERN).step_time(batch)


def test_a_decode_reads_the_experts_that_it_hits() -> None:
    """One sequence of Mixtral reads 2 of 8 experts, 12.9 of 46.7 billion parameters; a hundred read all."""
    one, many = (step(MIXTRAL, batch_of(decodes=n, context=100 * n)) for n in (1, 100))
    assert 2 * 12.7e9 / H100.bandwidth < one < 2 * 2 * 12.9e9 / H100.bandwidth
    assert many > 2 * 46e9 / H100.bandwidth


def test_experts_cost_between_the_ones_that_a_token_passes_and_all() -> None:
    experts = MIXTRAL.experts
    assert experts is not None
    batch = batch_of(decodes=64, context=6400)
    passed = replace(MIXTRAL, experts=None, ffn_size=2 * experts.ffn_size)
    whole = replace(MIXTRAL, experts=None, ffn_size=8 * experts.ffn_size)
    assert step(passed, batch) < step(MIXTRAL, batch) < 1.5 * step(whole, batch)
    mixed = replace(MIXTRAL, experts=replace(experts, num_dense_layers=16))
    dense = replace(MIXTRAL, experts=None)
    assert step(mixed, batch) == pytest.approx((step(MIXTRAL, batch) + step(dense, batch)) / 2)
    shared = replace(MIXTRAL, experts=replace(experts, shared_ffn_size=14336))
    assert step(shared, batch) - step(MIXTRAL, batch) > 32 * 2 * 3 * 4096 * 14336 / H100.bandwidth


def test_a_layer_has_a_router_besides_the_experts_that_it_chooses() -> None:
    one_layer, batch = replace(MIXTRAL, num_layers=1), batch_of(decodes=64, context=6400)
    extra = step(one_layer, batch) - step(replace(one_layer, experts=None, ffn_size=0), batch)
    times, tokens = TIMES["h100"], np.array([64.0])
    chosen = times.experts.seconds(tokens, 4096, 14336, 8, 2, H100)[0]
    router = times.gemm.seconds(tokens, 4096, 8, H100)[0]
    assert router < extra - chosen < 2 * router


def test_ranks_share_every_expert() -> None:
    for before, after in pairwise(step(MIXTRAL, batch_of(4096), ranks) for ranks in (1, 2, 4)):
        assert after < before


@pytest.mark.parametrize("cost_model", ["vllm-2023", "roofline", "published"])
def test_engines_of_2023_had_no_experts(cost_model: str) -> None:
    with pytest.raises(ConfigError, match=f"{cost_model} has no times of experts, which mixtral-8x7b has"):
        step_times_of(cost_model, MIXTRAL, H100, 1, "paged")
