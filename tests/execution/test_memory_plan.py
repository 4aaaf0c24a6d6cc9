"""The sizing rule gives the pools that the paper prints."""

from __future__ import annotations

import pytest

from pagedbench.execution.costs.cards import CARDS
from pagedbench.execution.memory_plan import plan_memory
from pagedbench.execution.shapes import BUILT_IN_SHAPES

BLOCK = 16


@pytest.mark.parametrize(
    ("model", "device", "num_ranks", "num_slots"),
    [
        ("opt-13b", "a100-40gb", 1, 15_856),
        ("opt-66b", "a100-40gb", 4, 9_824),
        ("opt-175b", "a100-80gb", 8, 60_128),
    ],
)
def test_slots_by_the_authors_rule(model: str, device: str, num_ranks: int, num_slots: int) -> None:
    shape = BUILT_IN_SHAPES[model]
    plan = plan_memory(shape, CARDS[device].memory, num_ranks)
    block_bytes = BLOCK * shape.kv_bytes_per_token(2) // num_ranks
    assert plan.kv_cache // block_bytes * BLOCK == num_slots  # 15.7K, 9.7K and 60.1K in the paper


def test_every_rank_has_all_biases_norms_and_positions() -> None:
    shape = BUILT_IN_SHAPES["opt-66b"]
    whole, quarter = (plan_memory(shape, CARDS["a100-40gb"].memory, ranks).parameters for ranks in (1, 4))
    assert whole == 2 * shape.num_parameters
    extra = 4 * quarter - whole
    per_layer = 5 * 9216 + 36864 + 4 * 9216  # biases and norms
    assert extra == 3 * 2 * (64 * per_layer + 2050 * 9216 + 2 * 9216)
