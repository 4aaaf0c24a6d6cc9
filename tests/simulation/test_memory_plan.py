"""The sizing rule gives the pools that the paper prints."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagedbench.config import ConfigError
from pagedbench.simulation.cards import CARDS
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.simulation.memory_plan import USABLE_SHARE, parse_bytes, plan_memory

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
    plan = plan_memory(shape, CARDS[device].memory, num_ranks, USABLE_SHARE)
    block_bytes = BLOCK * shape.kv_bytes_per_token(2, num_ranks)
    assert plan.kv_cache // block_bytes * BLOCK == num_slots  # 15.7K, 9.7K and 60.1K in the paper


@pytest.mark.parametrize("usable_share", [0.95, 0.9, 1.0])
@pytest.mark.parametrize("num_ranks", [1, 4])
def test_rows_add_up_to_the_byte(num_ranks: int, usable_share: float) -> None:
    card = CARDS["a100-80gb"]
    plan = plan_memory(BUILT_IN_SHAPES["opt-13b"], card.memory, num_ranks, usable_share)
    total, *parts, used, unused = (size for _, size in plan.rows(12_345_678))
    assert total == card.memory * num_ranks == sum(parts)
    assert parts[0] == pytest.approx((1 - usable_share) * total, abs=num_ranks)
    assert (parts[-1], used) == (used + unused, 12_345_678)


def test_what_cards_have_no_room_for_is_refused() -> None:
    shape = BUILT_IN_SHAPES["opt-13b"]
    plan = plan_memory(shape, CARDS["a100-40gb"].memory, 1, USABLE_SHARE)
    plan.check("it", "--kv-slots 0", plan.kv_cache)
    with pytest.raises(ConfigError, match=r"--kv-slots 1 is 12\.10 GiB, but it leaves 12\.10 for keys"):
        plan.check("it", "--kv-slots 1", plan.kv_cache + 1)
    small = plan_memory(shape, CARDS["a100-40gb"].memory, 1, 0.5)
    with pytest.raises(ConfigError, match=r"leaves no memory .* 23\.94 go to parameters"):
        small.check("it", "", 0)


def test_ranks_beyond_the_kv_heads_repeat_them() -> None:
    shape = replace(BUILT_IN_SHAPES["llama-13b"], num_kv_heads=4)
    assert shape.kv_bytes_per_token(2, 4) == shape.kv_bytes_per_token(2)
    assert shape.kv_bytes_per_token(2, 8) == 2 * shape.kv_bytes_per_token(2)


def test_sizes_in_every_unit() -> None:
    assert [parse_bytes(text) for text in ("12GiB", "1.5 GB", "1e9", "7")] == [
        12 * 2**30,
        15 * 10**8,
        10**9,
        7,
    ]
    for text in ("much", "-1GiB", "1e30"):
        with pytest.raises(ConfigError, match="write it like 12GiB"):
            parse_bytes(text)


def test_every_rank_has_all_biases_norms_and_positions() -> None:
    shape = BUILT_IN_SHAPES["opt-66b"]
    whole, quarters = (plan_memory(shape, 10**12, ranks, USABLE_SHARE).parameters for ranks in (1, 4))
    assert whole == 2 * shape.num_parameters
    extra = quarters - whole
    per_layer = 5 * 9216 + 36864 + 4 * 9216  # biases and norms
    assert extra == 3 * 2 * (64 * per_layer + 2050 * 9216 + 2 * 9216)
