"""The roofline against whole iterations that others measured, and what must hold of any shape."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pagedbench.config import ConfigError
from pagedbench.simulation.block_sizes import PAGED_FACTOR, STATED
from pagedbench.simulation.cards import CARDS, FASTER_TRANSFORMER, LEAN, VLLM_2023
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.simulation.cost_model import LINEAR_COST_MODELS
from pagedbench.simulation.roofline import all_reduce_seconds, roofline_costs
from pagedbench.simulation.step_times import step_times_of
from simulation.batches import batch_of

A100 = CARDS["a100-80gb"]

DISTSERVE = {
    ("opt-13b", 1): ((18.10, 0.1019, 7.12e-6), (19.93, 6.269e-4, 0.0385)),
    ("opt-13b", 2): ((14.74, 0.0686, 2.45e-6), (13.29, 3.411e-4, 0.0630)),
    ("opt-66b", 4): ((29.44, 0.1514, 8.32e-6), (30.76, 4.519e-4, 0.0633)),
    ("opt-66b", 8): ((25.49, 0.1066, 3.39e-6), (23.16, 2.269e-4, 0.0480)),
}
"""Milliseconds of iterations on A100-80GB, published with DistServe (OSDI'24): its own engine's prompts as
a + b tokens + c tokens^2, and decodes as a + b context + c sequences."""


def costs_of(model, ranks=1, card=A100, attention="paged", host=LEAN):
    return roofline_costs(BUILT_IN_SHAPES[model], card, ranks, attention, host)


@pytest.mark.parametrize(("model", "ranks"), DISTSERVE)
def test_iterations_of_an_engine_that_no_fit_has_seen(model, ranks):
    (a, b, c), (d, e, f) = DISTSERVE[model, ranks]
    costs = costs_of(model, ranks)
    prompts = 1e3 * costs.step_time(batch_of(1000))
    assert prompts == pytest.approx(a + b * 1000 + c * 1000**2, rel=0.3)
    for count in (8, 32, 64):
        decodes = 1e3 * costs.step_time(batch_of(decodes=count, context=count * 400))
        assert decodes == pytest.approx(d + e * count * 400 + f * count, rel=0.3)


@pytest.mark.parametrize("model", [name for name, shape in BUILT_IN_SHAPES.items() if not shape.experts])
@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_more_work_takes_longer_and_nothing_beats_the_card(model, card):
    shape, costs = BUILT_IN_SHAPES[model], costs_of(model, card=card)
    coarse = costs.layers[256::256]
    assert all(before < after for before, after in pairwise(coarse))
    matrices = shape.num_divisible_parameters - shape.vocab_size * shape.hidden_size * (
        1 if shape.tied_embeddings else 2
    )
    assert costs.layers[1] > 2 * matrices / card.bandwidth
    assert costs.layers[4096] > 2 * matrices * 4096 / card.peak
    assert costs.context > shape.kv_bytes_per_token(2) / card.bandwidth


def test_paged_attention_costs_its_factor_more():
    paged, contiguous = costs_of("opt-13b"), costs_of("opt-13b", attention="contiguous")
    assert paged.context / contiguous.context == pytest.approx(PAGED_FACTOR)
    assert replace(paged, context=0.0, attention="") == replace(contiguous, context=0.0)
    assert paged.attention.startswith("1.23 x contiguous at blocks of 16; ")
    assert contiguous.attention == ""


def test_every_cost_model_has_one_rule_for_the_block_size():
    """What a small block costs beside its tokens is paid once a block; large blocks change nothing."""
    shape = BUILT_IN_SHAPES["opt-13b"]

    def context(name, size, attention="paged"):
        return step_times_of(name, shape, A100, 1, attention, block_size=size).context

    for name in ("roofline", "vllm-2023", "published"):
        ratios = [context(name, size) / context(name, 16) for size in (1, 2, 4, 8, 16, 32, 128)]
        assert ratios == pytest.approx([4.68 / 1.23, 2.84 / 1.23, 1.92 / 1.23, 1.46 / 1.23, 1, 1, 1])
    assert context("roofline", 1, "contiguous") == context("roofline", 16, "contiguous")
    assert 1.46 < STATED.at(6) < 1.92
    for name, words in (
        ("roofline", "4.68 x contiguous at blocks of 1;"),
        ("published", "3.8 x at blocks of 1"),
    ):
        assert step_times_of(name, shape, A100, 1, "paged", block_size=1).attention.startswith(words)


def test_ranks_share_the_work_but_have_to_agree():
    alone, shared = costs_of("opt-66b", 1), costs_of("opt-66b", 8)
    assert shared.context == pytest.approx(alone.context / 8)
    assert shared.swap == pytest.approx(alone.swap / 8)
    assert shared.move == alone.move
    talk = 2 * 64 * float(all_reduce_seconds(np.array(2.0 * 2048 * 9216), 8, A100))
    assert shared.layers[2048] > alone.layers[2048] / 8 + 0.9 * talk


@pytest.mark.parametrize(
    ("ranks", "size", "microseconds"), [(4, 3.1e6, 73), (4, 63e6, 553), (8, 9.4e6, 165)]
)
def test_all_reduces_within_a_node(ranks, size, microseconds):
    """Medians that Vidur measured on one node of A100s."""
    found = 1e6 * float(all_reduce_seconds(np.array(size), ranks, A100))
    assert found == pytest.approx(microseconds, rel=0.15)


def test_fewer_kv_heads_are_read():
    shape = BUILT_IN_SHAPES["llama-13b"]
    grouped = replace(shape, num_kv_heads=8)
    whole, part = (roofline_costs(item, A100, 1, "contiguous", LEAN) for item in (shape, grouped))
    assert part.context == pytest.approx(whole.context / 5)
    assert part.pair == whole.pair
    assert part.layers[1] < whole.layers[1]


def test_hosts_differ_by_an_iterations_and_a_requests_time():
    decode = batch_of(decodes=30, context=10, num_running=10)
    lean, old, none = (
        costs_of("opt-13b", host=host).step_time(decode) for host in (LEAN, VLLM_2023, FASTER_TRANSFORMER)
    )
    assert old - lean == pytest.approx(10 * 0.225e-3)  # however many sequences they have
    assert lean - none == pytest.approx(4e-3)


def test_cost_models_by_name():
    shape = BUILT_IN_SHAPES["opt-13b"]
    orca = step_times_of("vllm-2023", shape, A100, 1, "contiguous")
    ft = step_times_of("vllm-2023", shape, A100, 1, "contiguous", is_request_level=True)
    assert orca == costs_of("opt-13b", host=VLLM_2023)
    assert ft == costs_of("opt-13b", attention="contiguous", host=FASTER_TRANSFORMER)
    assert step_times_of("roofline", shape, A100, 1, "paged") == costs_of("opt-13b")
    published = step_times_of("published", shape, A100, 1, "paged")
    assert replace(published, attention="") == LINEAR_COST_MODELS["a100-80gb", "opt-13b", 1]
    with pytest.raises(ConfigError, match="does not divide the 40 heads"):
        step_times_of("roofline", shape, A100, 3, "paged")
    with pytest.raises(ConfigError, match="leave out --cost-model published"):
        step_times_of("published", shape, A100, 2, "paged")


def test_several_ranks_cost_vllms_host_more():
    decode = batch_of(decodes=3, context=90)
    for ranks, more in ((1, 0.0), (4, 7e-3)):
        lean, old = (
            roofline_costs(BUILT_IN_SHAPES["opt-66b"], A100, ranks, "paged", host).step_time(decode)
            for host in (LEAN, VLLM_2023)
        )
        assert old - lean == pytest.approx(more)
