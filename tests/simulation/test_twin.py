"""Iterations of a twin vary, the same however their times are asked for."""

from __future__ import annotations

from dataclasses import replace

from pagedbench.simulation.twin import Variation
from simulation.batches import batch_of

VARIATION = Variation((0.5, 1.0, 1.5))


def test_a_batch_varies_by_what_it_holds_and_by_the_seed():
    vary = VARIATION.around(lambda batch: 2.0, 0)
    batches = [batch_of(decodes=3, context=context) for context in range(300)]
    times = [vary(batch) for batch in batches]
    assert set(times) == {1.0, 2.0, 3.0}
    assert 1.8 < sum(times) / len(times) < 2.2
    assert times == [vary(batch) for batch in batches]
    assert times != [VARIATION.around(lambda batch: 2.0, 1)(batch) for batch in batches]


def test_many_decodes_at_once_are_as_one_by_one():
    batch = batch_of(decodes=3, context=500)
    count, first = len(batch.decodes), batch.decode_context
    one_by_one = VARIATION.around(lambda batch: 2.0, 7)
    at_once = VARIATION.around_decodes(lambda batch, number: [2.0] * number, 7)
    following = [replace(batch, decode_context=first + turn * count) for turn in range(9)]
    assert at_once(batch, 9) == [one_by_one(item) for item in following]
