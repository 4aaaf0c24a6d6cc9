"""Iterations of today's engine: what they are made of, and what must hold of any shape."""

from __future__ import annotations

import pytest

from pagedbench.memory.moves import Copy
from pagedbench.simulation.cards import CARDS, MODERN
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.simulation.modern import modern_costs
from pagedbench.simulation.step_times import step_times_of
from simulation.batches import batch_of

LLAMA = BUILT_IN_SHAPES["llama-3.1-8b"]
CARD_NAMES = ("a100-40gb", "a100-80gb", "h100", "h200")


def step(card: str, batch, *, shape=LLAMA, ranks=1, attention="paged", block_size=16) -> float:
    costs = modern_costs(shape, CARDS[card], ranks, attention, MODERN, block_size)
    return costs.step_time(batch)


@pytest.mark.parametrize("card", CARD_NAMES)
def test_a_decode_reads_the_weights_at_least(card: str) -> None:
    weights = 2 * (LLAMA.num_parameters - LLAMA.vocab_size * LLAMA.hidden_size)
    floor = weights / CARDS[card].bandwidth
    assert floor < step(card, batch_of(decodes=1, context=100)) < 2 * floor
    assert step(card, batch_of(decodes=64, context=6400)) < 2 * step(card, batch_of(decodes=1, context=100))


def test_faster_memory_is_all_that_an_h200_has() -> None:
    batch = batch_of(decodes=128, context=256000)
    assert step("h200", batch) < step("h100", batch)
    assert 0.8 < step("h200", batch_of(4096)) / step("h100", batch_of(4096)) <= 1


@pytest.mark.parametrize("card", CARD_NAMES)
def test_ranks_share_the_work_and_pay_for_it(card: str) -> None:
    shape = BUILT_IN_SHAPES["llama-3.1-70b"]
    times = [
        step(card, batch_of(decodes=32, context=32000), shape=shape, ranks=ranks) for ranks in (1, 2, 4, 8)
    ]
    assert times == sorted(times, reverse=True)
    assert times[3] > times[0] / 8


def test_small_blocks_cost_by_the_one_rule() -> None:
    batch = batch_of(decodes=64, context=128000)
    whole = step("h100", batch)
    assert step("h100", batch, attention="contiguous") == whole
    assert step("h100", batch, block_size=32) == whole
    assert step("h100", batch, block_size=1) > 1.5 * whole


def test_it_is_asked_for_by_name() -> None:
    costs = step_times_of("modern", LLAMA, CARDS["h100"], 1, "paged")
    assert costs == modern_costs(LLAMA, CARDS["h100"], 1, "paged", MODERN)
    assert "vLLM 0.14" in costs.source
    assert "no host time" in costs.source


def test_swaps_cost_by_the_token_and_not_by_the_block() -> None:
    """A step's moves of one direction are one transfer; the paper's engine moves block by block."""

    def moved(costs, size: int, direction: str = "swap_outs") -> float:
        moves = [Copy(start, start, size) for start in range(0, 256, size)]
        return costs.step_time(batch_of(**{direction: moves}))

    modern = modern_costs(LLAMA, CARDS["h100"], 1, "paged", MODERN)
    assert moved(modern, 1) == moved(modern, 64) == moved(modern, 1, "swap_ins")
    assert moved(modern, 64) == pytest.approx(256 * modern.swap + modern.transfer)
    assert "gathered" in modern.source
    paper = step_times_of("vllm-2023", LLAMA, CARDS["h100"], 1, "paged")
    assert moved(paper, 1) > 10 * moved(paper, 64)
