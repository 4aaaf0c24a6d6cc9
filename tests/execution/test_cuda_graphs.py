"""Decoding on recorded graphs: the same tokens, from memory that stays where it is."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest
import torch

from execution.groups import group_of
from execution.test_input_builder import Fixed, batch_of
from pagedbench.backend import load_backend
from pagedbench.clock import VirtualClock
from pagedbench.config import RunConfig
from pagedbench.engine import Engine
from pagedbench.execution import cuda_graphs
from pagedbench.execution.attention import layers_of
from pagedbench.execution.cuda_graphs import (
    CUDAReplay,
    DecodeGraphs,
    decode_graphs,
    padded,
    sizes_up_to,
)
from pagedbench.execution.input_builder import InputBuilder
from pagedbench.execution.kv_cache import KVCache
from pagedbench.execution.model_runner import ModelExecutor
from pagedbench.execution.step_inputs import InputTensors
from pagedbench.memory.contiguous import EqualExtents
from pagedbench.memory.moves import Pool
from pagedbench.memory.placement import BlockTable, Extent
from pagedbench.models.loader import load_model
from pagedbench.ops.addresses import BlockTables, Extents
from pagedbench.ops.select import select_ops
from pagedbench.plan import make_plan
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.scheduler import Limits
from pagedbench.systems import SYSTEMS
from pagedbench.workload.arrivals import FixedArrivals
from serving import STEP_TIMES, outputs_of

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
BLOCK_SIZE, MAX_LEN, ROOMY, TIGHT = 4, 64, 1200, 140
KINDS = (
    SamplingParams(1),
    SamplingParams(1, n=3, temperature=0.8, seed=3),
    SamplingParams(1, beam_width=2),
)


class Frozen:
    """Stands in for a GPU: as a graph does, a replay computes again and answers in the same memory."""

    def __init__(self):
        self.num_captures = 0
        self.num_replays = 0

    def capture(self, function):
        function()
        result = function().clone()
        self.num_captures += 1

        def replay():
            self.num_replays += 1
            return result.copy_(function())

        return replay


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """The models are tiny."""


@cache
def loaded_on(folder: Path, device: str = "cpu"):
    ops = select_ops(device)
    return load_model(str(folder), dtype=torch.float32, device=device, ops=ops), ops


def requests_of(num_requests=14, kinds=KINDS[:1], seed=0):
    """Prompts and replies of any length, many at once and then few."""
    chance = random.Random(seed)
    return [
        Request(
            number,
            0.2 * (number // 5),
            Prompt(chance.randint(1, 30), seed=number),
            replace(kinds[number % len(kinds)], max_tokens=chance.randint(1, 30)),
        )
        for number in range(num_requests)
    ]


def memory_of(system, num_slots):
    if system == "fastertransformer":
        return EqualExtents(num_slots, BLOCK_SIZE, MAX_LEN, batch_size=5)
    return SYSTEMS[system].manager(num_slots, BLOCK_SIZE, MAX_LEN)


def serve(folder, requests, system="paged", num_slots=ROOMY, replay=None, device="cpu", **limits):
    """Run the requests, on graphs if there is a `replay`, in a pool that is NaN where nobody wrote."""
    (loaded, ops), memory = loaded_on(folder, device), memory_of(system, num_slots)
    pool = KVCache(loaded.shape, num_slots, torch.float32, device)
    for tensor in pool.tensors:
        tensor.fill_(float("nan"))
    graphs = None if replay is None else DecodeGraphs(loaded.model, layers_of(pool, ops), replay)
    executor = ModelExecutor.in_process(loaded.model, pool, memory, ops, graphs=graphs)
    scheduler = SYSTEMS[system].scheduler(memory, Limits(**limits))
    record = Engine(scheduler, memory, executor, VirtualClock(STEP_TIMES.step_time)).run(
        FixedArrivals(requests)
    )
    memory.check_integrity()
    return record, graphs


@pytest.mark.parametrize("folder", ["opt", "llama"], indirect=True)
@pytest.mark.parametrize("system", SYSTEMS)
def test_batches_that_grow_and_shrink_say_the_same(folder, system):
    requests, replay = requests_of(), Frozen()
    expected, _ = serve(folder, requests, system)
    record, graphs = serve(folder, requests, system, replay=replay)
    assert outputs_of(record) == outputs_of(expected)
    decoding = record.steps["decode_tokens"][record.steps["prefill_tokens"] == 0]
    if system != "fastertransformer":  # which also computes those that have ended
        layout = BLOCK_SIZE if system == "paged" else 0
        assert graphs.sizes == {(layout, padded(int(n))) for n in decoding}
        assert set(decoding.tolist()) - {n for _, n in graphs.sizes}, "none is in between"
    assert replay.num_captures == len(graphs.sizes)
    assert replay.num_replays == len(decoding)


@pytest.mark.parametrize("folder", ["opt", "llama"], indirect=True)
@pytest.mark.parametrize("preemption", ["recompute", "swap", "auto"])
def test_preempted_swapped_and_forked(folder, preemption):
    requests, replay = requests_of(18, KINDS), Frozen()
    expected, _ = serve(folder, requests, num_slots=TIGHT, preemption=preemption)
    record, _ = serve(folder, requests, num_slots=TIGHT, preemption=preemption, replay=replay)
    assert outputs_of(record) == outputs_of(expected)
    how = [f"preemptions_{name}" for name in ("recompute", "swap") if preemption in (name, "auto")]
    assert sum(record.steps[name].sum() for name in how) > 3
    assert record.steps["cow_copies"].sum() > 3
    assert replay.num_replays > 20


@pytest.mark.parametrize("folder", ["opt"], indirect=True)
def test_larger_batches_than_graphs_are_made_for(folder, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "MAX_ROWS", 4)
    requests, replay = requests_of(), Frozen()
    expected, _ = serve(folder, requests)
    record, graphs = serve(folder, requests, replay=replay)
    assert outputs_of(record) == outputs_of(expected)
    assert {num_rows for _, num_rows in graphs.sizes} == {1, 2, 4}
    assert 10 < replay.num_replays < len(record.steps) - 10


def test_sizes():
    assert [padded(n) for n in range(1, 10)] == [1, 2, 4, 4, 8, 8, 8, 8, 16]
    assert padded(250) == 256
    assert sizes_up_to(20) == [24, 16, 8, 4, 2, 1]
    assert sizes_up_to(3) == [4, 2, 1]
    assert sizes_up_to(0) == []


def decodes_of(*placements):
    sequences = [group_of(i, num_tokens=1).sequences[0] for i in range(len(placements))]
    for i, sequence in enumerate(sequences):
        sequence._offset += i + 1  # tokens stored behind the prompt's three
    builder = InputBuilder(Fixed(dict(zip(sequences, placements, strict=True))), vocab_size=10)
    return InputTensors.of(builder.build(batch_of(sequences, 0)), CPU)


def tensors_of(inputs):
    columns = (inputs.token_ids, inputs.positions, inputs.slots, inputs.context_lens)
    return [*columns, inputs.addresses.tables]


def test_padding_is_written_nowhere_and_looks_back_on_nothing():
    many = decodes_of(BlockTable([5, 1], 4), BlockTable([2, 7], 4), BlockTable([0, 3], 4))
    few = decodes_of(BlockTable([6], 4))
    inputs = InputTensors.padding(many.addresses.blank(4, 11), 4, CPU)
    assert inputs.slots.tolist() == [-1] * 4
    memory = [tensor.data_ptr() for tensor in tensors_of(inputs)]
    inputs.fill(many)
    assert inputs.positions.tolist() == [3, 4, 5, 0]
    assert inputs.slots.tolist() == [23, 28, 13, -1]
    assert inputs.context_lens.tolist() == [4, 5, 6, 0]
    assert inputs.addresses.tables.shape == (4, 3)
    assert inputs.addresses.tables[:3, :2].tolist() == [[5, 1], [2, 7], [0, 3]]
    inputs.fill(few)
    assert inputs.slots.tolist() == [27, -1, -1, -1]
    assert inputs.context_lens.tolist() == [4, 0, 0, 0]
    assert inputs.addresses.tables[0, 0] == 6
    assert memory == [tensor.data_ptr() for tensor in tensors_of(inputs)]


def test_addresses_keep_their_width():
    """Those of an iteration have room for twice the blocks that were needed once."""
    wide = BlockTables(torch.arange(12, dtype=torch.int32).view(2, 6), 4)
    blank = wide.blank(3, 17)
    assert (blank.layout, blank.tables.dtype, tuple(blank.tables.shape)) == (4, torch.int32, (3, 5))
    blank.fill(wide)
    assert blank.tables.tolist() == [[0, 1, 2, 3, 4], [6, 7, 8, 9, 10], [0] * 5]
    decodes = decodes_of(Extent(30, 9), Extent(8, 9))
    blank = decodes.addresses.blank(4, 17)
    assert isinstance(blank, Extents)
    blank.fill(decodes.addresses)
    assert (blank.layout, blank.starts.tolist()) == (0, [30, 8, 0, 0])


@pytest.mark.parametrize("folder", ["opt"], indirect=True)
def test_the_warm_up_records_what_batches_will_need(folder):
    """For all engines of the backend; recording writes nothing into the pool."""
    options = {"model": str(folder), "device": "cpu", "dtype": "float32", "kv_slots": 1024, "warmup": 3}
    plan = make_plan(RunConfig(max_num_seqs=11, max_model_len=64, **options))
    backend, replay = load_backend(plan), Frozen()
    assert backend.graphs is None
    backend.graphs = DecodeGraphs(backend.loaded.model, layers_of(backend.cache, backend.ops), replay)
    backend.warm_up(plan)
    assert backend.graphs.sizes == {(16, n) for n in (1, 2, 4, 8, 16)}
    before = [tensor.clone() for tensor in backend.cache.tensors]
    backend.graphs.capture_up_to(20)
    assert (16, 24) in backend.graphs.sizes
    for now, then in zip(backend.cache.tensors, before, strict=True):
        assert torch.equal(now.nan_to_num(), then.nan_to_num())
    assert Pool.HOST not in backend.cache._host
    backend.warm_up(make_plan(RunConfig(max_model_len=64, preemption="swap", **options)))
    assert Pool.HOST in backend.cache._host, "its memory is pinned before a run swaps"
    ft = make_plan(RunConfig(system="fastertransformer", batch_size=2, max_model_len=64, **options))
    backend.warm_up(ft)
    assert {n for layout, n in backend.graphs.sizes if layout == 0} == {1, 2}
    num_captures = replay.num_captures
    backend.make_engine(plan).run(FixedArrivals(requests_of()))
    assert replay.num_captures == num_captures


@pytest.mark.parametrize("folder", ["opt"], indirect=True)
def test_there_are_none_without_a_gpu(folder):
    loaded, ops = loaded_on(folder)
    assert decode_graphs(loaded.model, KVCache(loaded.shape, 16, torch.float32, "cpu"), ops) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("folder", ["opt", "llama"], indirect=True)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_gpu_says_the_same_with_and_without_graphs(folder, system):
    requests = requests_of(18, KINDS if system == "paged" else KINDS[:1])
    num_slots = TIGHT if system == "paged" else ROOMY
    expected, _ = serve(folder, requests, system, num_slots, device="cuda", preemption="swap")
    record, graphs = serve(
        folder, requests, system, num_slots, CUDAReplay(), device="cuda", preemption="swap"
    )
    assert outputs_of(record) == outputs_of(expected)
    assert graphs.sizes
