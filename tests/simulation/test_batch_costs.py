"""What a batch is charged for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagedbench.memory.moves import Copy
from pagedbench.simulation.batch_costs import BatchCosts, at, curve_through, num_pairs
from simulation.batches import batch_of

NO_COSTS = {
    "source": "made up",
    "layers": (0.0, 0.0),
    "head": (0.0, 0.0),
    "step": 0.0,
    "request": 0.0,
    "sequence": 0.0,
    "prompt": 0.0,
    "context": 0.0,
    "pair": 0.0,
    "copy": 0.0,
    "swap": 0.0,
    "move": 0.0,
}


def seconds(batch, **costs):
    return BatchCosts(**(NO_COSTS | costs)).step_time(batch)


MIXED = batch_of(5, (8, 11), decodes=4, context=90)


@pytest.mark.parametrize(
    ("cost", "expected"),
    [("step", 1), ("sequence", 4), ("prompt", 2), ("context", 90), ("pair", 15 + 9 + 10 + 11)],
)
def test_each_cost_has_its_count(cost, expected):
    assert seconds(MIXED, **{cost: 1.0}) == expected


def test_a_request_is_charged_once_however_many_sequences_it_has():
    assert seconds(replace(MIXED, num_running=3), request=1.0) == 3
    assert seconds(batch_of(copies=[Copy(0, 9, 7)], num_running=3), request=1.0) == 0  # nothing is computed


def test_all_tokens_pass_the_layers_and_rows_that_are_sampled_from_the_head():
    line = tuple(float(count) for count in range(20))
    assert seconds(MIXED, layers=line) == 5 + 3 + 4
    assert seconds(MIXED, head=line) == 1 + 4


def test_padding_is_computed():
    padded = batch_of(5, 2, padded_len=6)
    assert seconds(padded, layers=tuple(float(count) for count in range(20))) == 12
    assert seconds(padded, pair=1.0) == 2 * (1 + 2 + 3 + 4 + 5 + 6)


def test_copies_and_swaps_cost_by_the_token_and_by_the_block():
    moves = {"copies": [Copy(0, 9, 7)], "swap_outs": [Copy(0, 0, 16)], "swap_ins": [Copy(0, 0, 3)] * 2}
    batch = batch_of(**moves)
    assert seconds(batch, step=100.0, copy=1.0) == 7
    assert seconds(batch, step=100.0, swap=1.0) == 22
    assert seconds(batch, step=100.0, move=1.0) == 3


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 7), (3, 4), (5, 9)])
def test_pairs_are_causal(start, stop):
    found = num_pairs(batch_of((start, stop)).prefills[0])
    assert found == sum(1 for query in range(start, stop) for key in range(query + 1))


def test_curves_are_straight_between_knots_and_in_proportion_behind():
    curve = curve_through({2: 4.0, 4: 10.0})
    assert [at(curve, count) for count in range(7)] == [0.0, 4.0, 4.0, 7.0, 10.0, 12.5, 15.0]
