"""Synthetic batches are what the scheduler would make, and a real runner takes them."""

from __future__ import annotations

import pytest

from pagedbench.scheduling.samples import Samples
from pagedbench.tools.calibrate.synthetic_batches import FIT_CASES, HELD_OUT_CASES, Case, SyntheticBatches


class Recorder:
    """An executor that keeps what it is given."""

    def __init__(self):
        self.seen = []

    def execute(self, batch):
        stored = [sequence.num_stored for sequence in batch.decodes]
        self.seen.append((stored, batch.decode_context, batch.decode_step))
        return Samples()


@pytest.mark.parametrize("attention", ["paged", "contiguous"])
def test_decodes_grow_by_a_token_and_hold_room_for_it(attention):
    case, executor = Case(decodes=3, context=30, attention=attention), Recorder()
    batches = SyntheticBatches(case, case.num_slots(16, 4), 16, num_steps=4)
    timed = batches.sample(executor)
    assert executor.seen == [([n, n, n], 3 * n, n - 30) for n in (31, 32, 33, 34)]
    assert [item.load.decodes for item in timed] == [3, 3, 3]  # the first is not timed
    context = [getattr(item.load, f"{attention}_context") for item in timed]
    assert context == [96, 99, 102]
    batches.memory.check_integrity()


def test_prompts_are_whole_and_copies_apart():
    case, executor = Case(prompts=(20, 9), copied=3, swapped=2), Recorder()
    load = SyntheticBatches(case, case.num_slots(16, 4), 16, num_steps=4).sample(executor)[0].load
    assert (load.tokens, load.rows, load.prompts, load.pairs) == (29, 2, 2, 210 + 45)
    assert (load.copied, load.swapped, load.moves) == (48, 32, 2)


def test_nothing_held_out_is_fitted():
    assert not set(FIT_CASES) & set(HELD_OUT_CASES)
    sizes = {(case.prompts, case.decodes, case.context) for case in FIT_CASES}
    assert not sizes & {(case.prompts, case.decodes, case.context) for case in HELD_OUT_CASES}
