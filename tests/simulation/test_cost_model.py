"""Step times of batches, copies and moves included."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagedbench.memory.moves import Copy
from pagedbench.scheduling.batch import Batch
from pagedbench.simulation.cost_model import LINEAR_COST_MODELS, LinearCostModel

NOTHING = Batch(0, (), (), 0, 0, 0, None)
MODEL = LinearCostModel(1.0, 0.0, 0.0, 0.0, "made up", copy=0.5, swap=0.25, move=2.0)


def milliseconds(model, **changes):
    return 1e3 * (model.step_time(replace(NOTHING, **changes)) - model.step_time(NOTHING))


def test_copies_cost_by_the_token():
    assert milliseconds(MODEL, copies=[Copy(0, 100, 7), Copy(50, 200, 3)]) == pytest.approx(5.0)


@pytest.mark.parametrize("direction", ["swap_outs", "swap_ins"])
def test_moves_cost_by_the_token_and_by_the_block(direction):
    assert milliseconds(MODEL, **{direction: [Copy(0, 0, 16), Copy(32, 16, 16)]}) == pytest.approx(12.0)


@pytest.mark.parametrize(("block_size", "expected"), [(16, 8.39 + 3.84), (1, 8.39 + 61.44)])
def test_swapping_256_tokens_of_the_papers_figure_19a(block_size, expected):
    """In one direction: 8.4 ms at 25 GB/s, and 80 copies of 3 microseconds a block."""
    moves = [Copy(start, start, block_size) for start in range(0, 256, block_size)]
    found = milliseconds(LINEAR_COST_MODELS["a100-40gb", "opt-13b", 1], swap_outs=moves)
    assert found == pytest.approx(expected, rel=1e-3)


def test_a_copied_token_is_read_and_written_at_three_quarters_of_the_bandwidth():
    small, large = (LINEAR_COST_MODELS[name, "opt-13b", 1] for name in ("a100-40gb", "a100-80gb"))
    assert small.copy == pytest.approx(1e3 * 2 * 819_200 / (0.75 * 1.555e12))
    assert large.copy / small.copy == pytest.approx(1.555 / 2.039)


def test_ranks_share_the_bytes_but_not_the_calls():
    model = LINEAR_COST_MODELS["a100-40gb", "opt-66b", 4]
    assert model.swap == pytest.approx(1e3 * 2_359_296 / 4 / 25e9)
    assert model.copy == pytest.approx(1e3 * 2 * 2_359_296 / 4 / (0.75 * 1.555e12))
    assert model.move == pytest.approx(0.003 * 2 * 64)
