from __future__ import annotations

import gc

import numpy as np
import pytest

from metrics.builders import small_run
from pagedbench.memory.usage import MemoryUsage
from pagedbench.metrics.recorder import Recorder
from pagedbench.metrics.step_rows import STEP_COLUMNS
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, SequenceGroup
from pagedbench.scheduling.batch import Batch, BlockedBy, Prefill
from pagedbench.scheduling.repetition import Stretch

USAGE = MemoryUsage(token_states=50, reserved=10, internal=9, rounding=5, unusable=15, free=11, shared=3)


def record_steps(recorder: Recorder, numbers: range) -> None:
    for step in numbers:
        batch = Batch(step, (), (), 0, 2, 10**10 + step, decode_step=step + 1)
        recorder.step(float(step), step + 0.5, batch, USAGE)


def test_a_step_is_a_row() -> None:
    sequence = SequenceGroup(Request(0, 0.0, Prompt(7), SamplingParams(3)), 0).sequences[0]
    recorder = Recorder(capacity=100)
    prefill = Prefill(sequence, 0, 7, (sequence, sequence))
    batch = Batch(
        0,
        [prefill],
        [sequence] * 3,
        9,
        4,
        5,
        1,
        num_dead=1,
        num_swapped=6,
        prefix_hits=8,
        evicted_blocks=21,
        blocked_by=BlockedBy.TOKENS,
    )
    recorder.step(1.0, 1.5, batch, USAGE)
    steps = recorder.finish(owned_at_end=0, interrupted=False).steps
    row = [int(steps[name][0]) for name in STEP_COLUMNS]
    assert row == [0, 4, 5, 6, 7, 2, 50, 10, 9, 20, 11, 5, 15, 3, 0, 0, 0, 0, 0, 8, 0, 21, 4]
    assert (steps.start.tolist(), steps.end.tolist(), steps.decode_ends.tolist()) == (
        [1.0],
        [1.5],
        [0.0, 1.5],
    )
    assert recorder.num_tokens == 2 + 2


def test_iterations_of_a_stretch_have_the_slots_of_the_latest_growth() -> None:
    sequence = SequenceGroup(Request(0, 0.0, Prompt(7), SamplingParams(3)), 0).sequences[0]
    recorder = Recorder(capacity=100)
    record_steps(recorder, range(1))
    growths = [1, 7, 3, 2, 4, 2, 4, 5]
    for step, number, found, num_evicted in ((1, 5, growths, 0), (6, 2, [], 5)):
        batch = Batch(step, (), [sequence] * 2, 9, 2, 0, step + 1, evicted_blocks=num_evicted)
        usage = MemoryUsage(token_states=52, reserved=18, internal=0, rounding=5, unusable=5, free=20)
        times = [float(step + i) for i in range(number + 1)]
        recorder.repeat(times, Stretch(batch, number, usage, found, usage))
    steps = recorder.finish(owned_at_end=0, interrupted=False).steps
    parts = ("kv_token_states", "kv_reserved", "kv_internal", "kv_external", "kv_free")
    table = np.stack([steps[name] for name in parts], axis=1)
    assert table[1:].tolist() == [
        [52, 28, 3, 10, 7],
        [54, 26, 3, 10, 7],
        [56, 24, 3, 10, 7],
        [58, 26, 4, 10, 2],
        [60, 24, 4, 10, 2],
        [52, 18, 0, 10, 20],
        [54, 16, 0, 10, 20],
    ]
    assert steps["evicted_blocks"].tolist() == [0, 2, 0, 0, 3, 0, 0, 0]
    assert steps["step"].tolist() == list(range(8))
    assert (steps.start[1:].tolist(), steps.end[1:].tolist()) == (
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
        [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
    )


def test_a_run_without_steps_has_every_column() -> None:
    steps = Recorder(capacity=1).finish(owned_at_end=0, interrupted=True).steps
    assert [len(steps[name]) for name in STEP_COLUMNS] == [0] * len(STEP_COLUMNS)


def test_steps_are_columns_and_no_objects() -> None:
    recorder = Recorder(capacity=100)
    record_steps(recorder, range(10))
    before = len(gc.get_objects())
    record_steps(recorder, range(10, 2010))
    assert len(gc.get_objects()) - before < 20
    steps = recorder.finish(owned_at_end=0, interrupted=False).steps
    assert steps["waiting"].tolist() == [10**10 + step for step in range(2010)]
    assert steps["waiting"].flags.c_contiguous


@pytest.mark.parametrize("with_failed", [False, True])
def test_latencies_are_derived_once(with_failed: bool) -> None:
    record = small_run(with_failed=with_failed)
    assert record.latencies is record.latencies
    assert len(record.latencies) == len(record.requests)
