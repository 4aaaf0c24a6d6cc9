"""Rows that are kept from iteration to iteration equal rows built anew, under every schedule."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.groups import group_of
from pagedbench.clock import VirtualClock
from pagedbench.engine import Engine
from pagedbench.execution.rows import DecodeRows, PrefillRows
from pagedbench.memory.contiguous import EqualExtents
from pagedbench.memory.manager import BlockTable, Copy
from pagedbench.memory.paged import Paged
from pagedbench.ops.addresses import BlockTables
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.batch import Batch, Prefill
from pagedbench.scheduling.samples import BeamStep, Samples
from pagedbench.scheduling.scheduler import Limits
from pagedbench.simulation.cost_model import LINEAR_COST_MODELS
from pagedbench.systems import SYSTEMS
from pagedbench.workload.arrivals import FixedArrivals

CPU = torch.device("cpu")
STEP_TIMES = LINEAR_COST_MODELS["a100-40gb", "opt-13b", 1]
MAX_LEN = 64
KINDS = (
    SamplingParams(1),
    SamplingParams(1, n=3, temperature=1.0),
    SamplingParams(1, beam_width=2),
    SamplingParams(1, beam_width=4),
)


class Shadow:
    """An executor that checks the kept rows and draws tokens, and the parents of beams, at random."""

    def __init__(self, memory, seed=0):
        self.memory = memory
        self.rows = DecodeRows(memory, CPU)
        self.num_checks = 0
        self._random = random.Random(seed)

    def execute(self, batch):
        if batch.decodes:
            self.rows.update(batch)
            self.check(batch.decodes)
        sampled = [prefill.sampled for prefill in batch.prefills]
        alive = [item for group in sampled for item in group]
        alive += [sequence for sequence in batch.decodes if not sequence.has_ended]
        singles = [item for item in alive if item.group.request.sampling.beam_width is None]
        beams = dict.fromkeys(item.group for item in alive if item.group.request.sampling.beam_width)
        tokens = [self._random.randrange(1000) for _ in singles]
        return Samples(singles, tokens, [0.0] * len(singles), [self._step(group) for group in beams])

    def _step(self, group):
        width = group.num_sequences
        is_first = not group.sequences[0].output_ids
        parents = list(range(width)) if is_first else self._random.choices(range(width), k=width)
        tokens = [self._random.randrange(1000) for _ in parents]
        return BeamStep(group, parents, tokens, [0.0] * width)

    def check(self, decodes):
        self.num_checks += 1
        rows, placements = self.rows, [self.memory.placement(sequence) for sequence in decodes]
        stops = [sequence.num_stored for sequence in decodes]
        assert rows.num_tokens == len(decodes)
        assert rows.rows.tolist() == list(range(len(decodes)))
        assert rows.positions.tolist() == [stop - 1 for stop in stops]
        assert rows.context_lens.tolist() == stops
        assert rows.token_ids.tolist() == [sequence.output_ids[-1] for sequence in decodes]
        slots = [place.slots(stop - 1, stop)[0] for place, stop in zip(placements, stops, strict=True)]
        assert rows.slots.tolist() == slots
        if isinstance(rows.addresses, BlockTables):
            tables = rows.addresses.tables
            assert tables.is_contiguous()
            assert len(tables) == len(decodes)
            for table, placement in zip(tables.tolist(), placements, strict=True):
                assert table[: len(placement.blocks)] == placement.blocks
        else:
            assert rows.addresses.starts.tolist() == [placement.start for placement in placements]


def serve(system, memory, requests, limits=None, seed=0):
    shadow = Shadow(memory, seed)
    scheduler = SYSTEMS[system].scheduler(memory, limits or Limits())
    record = Engine(scheduler, memory, shadow, VirtualClock(STEP_TIMES.step_time)).run(
        FixedArrivals(requests)
    )
    assert not record.interrupted
    assert shadow.num_checks
    return shadow, record


def requests_of(chance, num_requests, kinds=KINDS):
    """Prompts and replies of any length, of which many begin alike."""
    requests, now = [], 0.0
    for number in range(num_requests):
        now += chance.choice([0.0, 0.0, 0.01, 0.1])
        prompt_len, output_len = chance.randint(1, 40), chance.randint(1, 20)
        kind = chance.choice(kinds)
        sampling = SamplingParams(
            output_len, n=kind.n, beam_width=kind.beam_width, temperature=kind.temperature
        )
        ids = tuple([7] * prompt_len) if chance.random() < 0.5 else None
        requests.append(Request(number, now, Prompt(prompt_len, number, ids), sampling))
    return requests


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    block_size=st.integers(1, 9),
    num_slots=st.integers(250, 700),
    preemption=st.sampled_from(["auto", "recompute", "swap"]),
    prefill=st.sampled_from(["mixed", "separate"]),
    prefix_caching=st.booleans(),
)
def test_paged_under_preemption_swap_beams_and_shared_prefixes(
    seed, block_size, num_slots, preemption, prefill, prefix_caching
):
    chance = random.Random(seed)
    memory = Paged(num_slots, block_size, MAX_LEN, prefix_caching=prefix_caching)
    limits = Limits(preemption=preemption, prefill=prefill, max_num_seqs=chance.randint(6, 40))
    serve("paged", memory, requests_of(chance, 25), limits, seed)
    memory.check_integrity()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), system=st.sampled_from(["orca-oracle", "orca-max", "fastertransformer"]))
def test_extents(seed, system):
    chance = random.Random(seed)
    if system == "fastertransformer":
        memory = EqualExtents(1200, 8, MAX_LEN, batch_size=chance.randint(1, 4))
    else:
        memory = SYSTEMS[system].manager(1200, 8, MAX_LEN)
    serve(system, memory, requests_of(chance, 20), seed=seed)


def test_the_schedules_of_these_tests_preempt_swap_and_copy():
    chance = random.Random(3)
    _, record = serve("paged", Paged(260, 4, MAX_LEN), requests_of(chance, 60))
    for column in ("preemptions_recompute", "preemptions_swap", "cow_copies"):
        assert record.steps[column].sum() > 3, column


class Counting(Paged):
    """Counts how often it is asked where a sequence lies."""

    num_asked = 0

    def placement(self, sequence):
        self.num_asked += 1
        return super().placement(sequence)


def test_only_what_changed_is_asked_for():
    """Eight sequences that begin and end together, of five blocks each: a question a block."""
    memory = Counting(2048, 16, 256)
    requests = [Request(i, 0.0, Prompt(16, i), SamplingParams(65)) for i in range(8)]
    shadow = Shadow(memory)
    shadow.check = lambda decodes: None
    scheduler = SYSTEMS["paged"].scheduler(memory, Limits())
    Engine(scheduler, memory, shadow, VirtualClock(STEP_TIMES.step_time)).run(FixedArrivals(requests))
    assert shadow.rows.num_seatings == 1
    assert memory.num_asked == 1 + 8 * 4


class Fixed:
    """Places that a test names."""

    def __init__(self, placements):
        self.placements = placements

    def placement(self, sequence):
        return self.placements[sequence]


def batch_of(sequences, decode_step, **changes):
    return Batch(decode_step, (), sequences, 0, 1, 0, decode_step, **changes)


@pytest.mark.parametrize(
    ("width", "decode_step", "changes"),
    [
        (1, 7, {}),
        (2, 1, {}),
        (1, 1, {"copies": [Copy(0, 8, 1)]}),
        (1, 1, {"swap_ins": [Copy(0, 8, 1)]}),
        (1, 1, {"preemptions": [None]}),
    ],
    ids=["iterations between", "its group may fork", "copies", "swap-in", "preemption"],
)
def test_a_sequence_may_move_whenever(width, decode_step, changes):
    """Within a block, after each of the events on which sequences move."""
    sequence = group_of(0, num_tokens=2, n=width).sequences[0]
    memory = Fixed({sequence: BlockTable([2, 5], 4)})
    shadow = Shadow(memory)
    shadow.rows.update(batch_of([sequence], 0))
    assert shadow.rows.slots.tolist() == [10]
    sequence._offset += decode_step
    memory.placements[sequence] = BlockTable([9, 3, 7], 4)
    shadow.rows.update(batch_of([sequence], decode_step, **changes))
    shadow.check([sequence])


def test_prompts_know_the_last_token_of_those_that_are_sampled():
    memory = Fixed({"a": BlockTable([3, 1], 4), "b": BlockTable([0], 4), "c": BlockTable([5, 2, 6], 4)})
    prefills = [Prefill("a", 2, 7, ("a",)), Prefill("b", 0, 3, ()), Prefill("c", 8, 10, ("c",))]
    rows = PrefillRows(prefills, memory, None, CPU)
    assert rows.positions.tolist() == [2, 3, 4, 5, 6, 0, 1, 2, 8, 9]
    assert rows.slots.tolist() == [14, 15, 4, 5, 6, 0, 1, 2, 24, 25]
    assert rows.query_starts.tolist() == [0, 5, 8, 10]
    assert rows.last_tokens.tolist() == [4, 9]
    assert rows.num_sampled == 2
    assert rows.sampled_context_lens.tolist() == [7, 10]
    assert np.array_equal(rows.sampled_addresses.tables[:, :2], [[3, 1], [5, 2]])


def test_padded_prompts_must_be_whole():
    memory = Fixed({"a": BlockTable([3, 1], 4)})
    with pytest.raises(AssertionError, match="whole"):
        PrefillRows([Prefill("a", 2, 7, ())], memory, 8, CPU)
