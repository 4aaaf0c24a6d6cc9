"""Simulated cards: what they take from a measured one, and what they say of themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagedbench.simulation.cards import CARDS, MODERN, NOT_VERIFIED
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.simulation.modern import modern_costs
from pagedbench.simulation.modern_times import TIMES
from simulation.batches import batch_of

LLAMA = BUILT_IN_SHAPES["llama-3.1-8b"]


@pytest.mark.parametrize("name", CARDS)
def test_a_card_says_how_far_it_was_verified(name: str) -> None:
    card = CARDS[name]
    costs = modern_costs(LLAMA, card, 1, "paged", MODERN)
    assert (NOT_VERIFIED in costs.source) == (not card.verified)
    assert f"{name.upper()} ({card.source}" in costs.source
    assert card.verified or name not in TIMES  # what has tables of its own was compared with them


@pytest.mark.parametrize("name", CARDS)
def test_a_decode_takes_as_long_as_reading_the_weights(name: str) -> None:
    card = CARDS[name]
    weights = 2 * (LLAMA.num_parameters - LLAMA.vocab_size * LLAMA.hidden_size)
    seconds = modern_costs(LLAMA, card, 1, "paged", MODERN).step_time(batch_of(decodes=1, context=100))
    assert weights / card.bandwidth < seconds < 2.2 * weights / card.bandwidth


def test_a_slower_link_makes_large_sums_slower_in_proportion() -> None:
    h100 = CARDS["h100"]
    shape = replace(LLAMA, hidden_size=8192, num_layers=1)

    def seconds(link: float) -> float:
        costs = modern_costs(shape, replace(h100, link=link * h100.link), 2, "paged", MODERN)
        return costs.step_time(batch_of(8192))

    extra = [seconds(link) - seconds(1e6) for link in (1.0, 0.1)]
    assert extra[1] == pytest.approx(10 * extra[0], rel=0.1)
    assert extra[0] > 2 * 2 * 8192 * 8192 / TIMES["h100"].reduce_eager.link


def test_two_cards_without_a_link_of_their_own_wait_for_each_other() -> None:
    linked = replace(CARDS["l40s"], link=CARDS["a100-80gb"].link)
    batch = batch_of(4096)
    slow, fast = (modern_costs(LLAMA, card, 2, "paged", MODERN) for card in (CARDS["l40s"], linked))
    assert slow.step_time(batch) > 1.2 * fast.step_time(batch)
