"""Arrays that are kept from iteration to iteration equal those built anew, under every schedule."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.groups import group_of
from execution.pools import back, out
from pagedbench.clock import VirtualClock
from pagedbench.engine import Engine
from pagedbench.execution.input_builder import InputBuilder, runs_of
from pagedbench.execution.step_inputs import NO_SLOT, BeamOutputs, StepOutputs
from pagedbench.memory.contiguous import EqualExtents
from pagedbench.memory.layer_group import ALL_LAYERS
from pagedbench.memory.moves import Copy
from pagedbench.memory.paged import Paged
from pagedbench.memory.placement import BlockTable, Extent
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.batch import Batch, Prefill
from pagedbench.scheduling.scheduler import Limits
from pagedbench.simulation.cost_model import LINEAR_COST_MODELS
from pagedbench.systems import SYSTEMS
from pagedbench.workload.arrivals import FixedArrivals

STEP_TIMES = LINEAR_COST_MODELS["a100-40gb", "opt-13b", 1]
MAX_LEN = 64
VOCAB_SIZE = 1000
KINDS = (
    SamplingParams(1),
    SamplingParams(1, n=3, temperature=1.0),
    SamplingParams(1, beam_width=2),
    SamplingParams(1, beam_width=4),
)


class Shadow:
    """An executor that checks the arrays, and chooses tokens and the parents of beams at random."""

    def __init__(self, memory, seed=0):
        self.memory = memory
        self.builder = InputBuilder(memory, VOCAB_SIZE)
        self.num_checks = 0
        self._random = random.Random(seed)

    def execute(self, batch):
        inputs = self.builder.build(batch)
        self.check(batch, inputs)
        num_tokens = len(inputs.sampling.greedy_rows) + len(inputs.sampling.random_rows)
        tokens = [self._random.randrange(VOCAB_SIZE) for _ in range(num_tokens)]
        columns = (inputs.sampling.beam_widths.tolist(), inputs.sampling.is_first_step.tolist())
        beams = [self._step(width, is_first) for width, is_first in zip(*columns, strict=True)]
        return self.builder.samples(StepOutputs(tokens, [0.0] * num_tokens, beams))

    def _step(self, width, is_first):
        parents = list(range(width)) if is_first else self._random.choices(range(width), k=width)
        tokens = [self._random.randrange(VOCAB_SIZE) for _ in parents]
        return BeamOutputs(parents, tokens, [0.0] * width)

    def check(self, batch, inputs):
        self.num_checks += bool(batch.decodes)
        placements = [self.memory.placement(item) for item in batch.decodes]
        stops = [item.num_stored for item in batch.decodes]
        positions = [stop - 1 for stop in stops]
        slots = [place.slots(stop - 1, stop)[0] for place, stop in zip(placements, stops, strict=True)]
        token_ids = [item.output_ids[-1] for item in batch.decodes]
        for prefill in batch.prefills:
            start, stop = prefill.start, prefill.stop
            placements.append(self.memory.placement(prefill.sequence))
            stops.append(stop)
            num_padding = 0 if inputs.padded_len is None else inputs.padded_len - stop
            prompt = prefill.sequence.group.request.prompt.ids(VOCAB_SIZE).tolist()
            positions += [0] * num_padding + list(range(start, stop))
            slots += [NO_SLOT] * num_padding + placements[-1].slots(start, stop)
            token_ids += [0] * num_padding + (prompt + prefill.sequence.output_ids)[start:stop]
        assert inputs.positions.tolist() == positions
        assert inputs.slots.tolist() == slots
        assert inputs.token_ids.tolist() == token_ids
        assert inputs.num_decodes == len(batch.decodes)
        assert inputs.context_lens.tolist() == stops
        assert inputs.tables.flags.c_contiguous
        assert len(inputs.tables) == len(stops)
        for row, placement in zip(inputs.tables.tolist(), placements, strict=True):
            first = placement.blocks if isinstance(placement, BlockTable) else [placement.start]
            assert row[: len(first)] == first


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


@settings(max_examples=40)
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

    def placement(self, sequence, layer_group=0):
        self.num_asked += 1
        return super().placement(sequence)


def test_only_what_changed_is_asked_for():
    """Eight sequences that begin and end together, of five blocks each: a question a block."""
    memory = Counting(2048, 16, 256)
    requests = [Request(i, 0.0, Prompt(16, i), SamplingParams(65)) for i in range(8)]
    shadow = Shadow(memory)
    shadow.check = lambda batch, inputs: None
    scheduler = SYSTEMS["paged"].scheduler(memory, Limits())
    Engine(scheduler, memory, shadow, VirtualClock(STEP_TIMES.step_time)).run(FixedArrivals(requests))
    assert memory.num_asked == 1 + 8 + 8 * 4  # the first tells the kind; prompts; growth


class Fixed:
    """Placements that a test names."""

    layer_groups = (ALL_LAYERS,)

    def __init__(self, placements):
        self.placements = placements

    def placement(self, sequence, layer_group=0):
        return self.placements[sequence]


def batch_of(decodes, decode_step, prefills=(), **changes):
    return Batch(decode_step or 0, prefills, decodes, 0, 1, 0, decode_step, **changes)


@pytest.mark.parametrize(
    ("width", "decode_step", "changes"),
    [
        (1, 7, {}),
        (2, 1, {}),
        (1, 1, {"copies": [Copy(0, 8, 1)]}),
        (1, 1, {"swap_ins": [back(0, 8, 1)]}),
        (1, 1, {"preemptions": [None]}),
    ],
    ids=["iterations between", "its group may fork", "copies", "swap-in", "preemption"],
)
def test_a_sequence_may_move_whenever(width, decode_step, changes):
    """Within a block, after each of the events on which sequences move."""
    sequence = group_of(0, num_tokens=2, n=width).sequences[0]
    memory = Fixed({sequence: BlockTable([2, 5], 4)})
    shadow = Shadow(memory)
    assert shadow.builder.build(batch_of([sequence], 0)).slots.tolist() == [10]
    sequence._offset += decode_step
    memory.placements[sequence] = BlockTable([9, 3, 7], 4)
    batch = batch_of([sequence], decode_step, **changes)
    shadow.check(batch, shadow.builder.build(batch))


def test_prompts_know_the_last_token_of_those_that_are_sampled():
    one, two, three, four = (group_of(i, 5, prompt_len=7).sequences[0] for i in range(4))
    tables = {one: [3, 1], two: [0], three: [5, 2, 6], four: [8, 7]}
    memory = Fixed({sequence: BlockTable(blocks, 4) for sequence, blocks in tables.items()})
    prefills = [Prefill(one, 2, 7, (one,)), Prefill(two, 0, 3, ()), Prefill(three, 8, 10, (three,))]
    inputs = InputBuilder(memory, VOCAB_SIZE).build(batch_of([four], 0, prefills))
    assert inputs.positions.tolist() == [6, 2, 3, 4, 5, 6, 0, 1, 2, 8, 9]
    assert inputs.slots.tolist() == [30, 14, 15, 4, 5, 6, 0, 1, 2, 24, 25]
    assert inputs.query_starts.tolist() == [0, 5, 8, 10]
    assert inputs.sampled_tokens.tolist() == [0, 5, 10]
    assert inputs.sampled_sequences.tolist() == [0, 1, 3]
    assert inputs.sampling.greedy_rows.tolist() == [0, 1, 2]


def test_decodes_keep_their_rows_while_only_prompts_run():
    one, two, new = (group_of(i, 2).sequences[0] for i in range(3))
    memory = Counting(64, 4, 64)
    for sequence in (one, two, new):
        memory.allocate(sequence.group)
    shadow = Shadow(memory)
    shadow.builder.build(batch_of([one, two], 0))
    prompts = batch_of([], None, [Prefill(new, 0, 3, (new,))])
    inputs = shadow.builder.build(prompts)
    shadow.check(prompts, inputs)
    assert inputs.sampled_tokens.tolist() == [2]
    assert inputs.sampled_sequences.tolist() == [0]
    memory.num_asked = 0
    inputs = shadow.builder.build(batch_of([one, two], 1))
    assert memory.num_asked == 0
    assert inputs.tables[:, 0].tolist() == [memory.placement(item).blocks[0] for item in (one, two)]


def test_padded_prompts_must_be_whole():
    (sequence,) = group_of().sequences
    memory = Fixed({sequence: BlockTable([3, 1], 4)})
    with pytest.raises(AssertionError, match="whole"):
        InputBuilder(memory, VOCAB_SIZE).build(
            batch_of([], None, [Prefill(sequence, 2, 7, ())], padded_len=8)
        )


def test_neighbouring_copies_are_one_run():
    """Only if they are neighbours where they come from and where they go to; in whatever order."""
    copies = [
        (8, 40, 4),
        (0, 20, 4),
        (4, 24, 4),
        (0, 60, 4),
        (4, 64, 4),
        (12, 48, 4),
        (16, 52, 3),
        (90, 28, 4),
    ]
    runs = runs_of(Copy(*copy) for copy in copies)
    assert runs.tolist() == [[0, 20, 8], [90, 28, 4], [8, 40, 4], [12, 48, 7], [0, 60, 8]]


def test_moves_between_pools_come_first_in_their_order():
    (sequence,) = group_of(num_tokens=1).sequences
    builder = InputBuilder(Fixed({sequence: Extent(3, 9)}), VOCAB_SIZE)
    lists = {"copies": [Copy(1, 2, 1)], "swap_ins": [back(8, 5, 2)], "swap_outs": [out(0, 4, 2)]}
    moves = builder.build(batch_of([sequence], 0, **lists)).moves
    assert [(item.source.value, item.destination.value) for item in moves] == [
        ("device", "host"),
        ("host", "device"),
        ("device", "device"),
    ]
    assert [item.runs.tolist() for item in moves] == [[[0, 4, 2]], [[8, 5, 2]], [[1, 2, 1]]]
    assert builder.build(batch_of([sequence], 1)).moves == ()
