"""What sharing saves, and that it changes no reply."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models.folders import hugging_face_greedy
from pagedbench.memory.evictions import EVICTIONS, Ttl
from pagedbench.memory.paged import Paged
from pagedbench.memory.prefix import stored_contents
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.simulation.executor import Simulated
from pagedbench.systems import SYSTEMS
from pagedbench.workload.arrivals import FixedArrivals
from pagedbench.workload.dataset import Dataset
from pagedbench.workload.rows import Row
from pagedbench.workload.selection import Traffic
from pagedbench.workload.trace import build_trace
from serving import (
    BEAMS,
    BLOCK_SIZE,
    GREEDY,
    LENGTHS,
    MAX_LEN,
    MODELS,
    ROOMY,
    SAMPLINGS,
    WIDTHS,
    engine_of,
    loaded_model,
    memory_of,
    outputs_of,
    prompts_of,
    requests_of,
    serve,
)  # fmt: skip

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.metrics.records import RunRecord
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import Samples

pytestmark = pytest.mark.usefixtures("one_thread")


def test_simulated_beams_share_as_many_blocks_as_those_of_a_trained_model(test_data: Path) -> None:
    folder = test_data / "models" / "stories260K" / "hf"
    opening = SamplingParams(18, n=12, temperature=1.0)
    stories = serve(folder, [Request(0, 0.0, Prompt(1, token_ids=(1,)), opening)]).requests[0].outputs
    prompts = [Prompt(19, token_ids=(1, *story.token_ids)) for story in stories]
    for width in WIDTHS:
        requests = [
            Request(i, 0.0, prompt, SamplingParams(44, beam_width=width))
            for i, prompt in enumerate(prompts)
        ]
        memory = memory_of("paged", 8 * ROOMY)
        simulated = engine_of("paged", memory, Simulated(), "auto").run(FixedArrivals(requests))
        real = serve(folder, requests, kv_slots=8 * ROOMY)
        assert saved_by_sharing(simulated) == pytest.approx(saved_by_sharing(real), abs=0.03)


def saved_by_sharing(record: RunRecord) -> float:
    """Blocks that need not exist, as a share of those in the tables (paper, Fig. 15)."""
    steps = record.steps
    logical_by_physical = 1 + steps["kv_shared"] / (record.capacity - steps["kv_free"])
    return float(1 - 1 / logical_by_physical.mean())


@pytest.mark.parametrize("folder", MODELS, indirect=True)
@pytest.mark.parametrize("kv_slots", [ROOMY, 136])
@pytest.mark.parametrize("is_registered", [False, True])
@pytest.mark.parametrize("prefix_caching", [False, True])
def test_prompts_that_begin_alike(
    folder: Path, prefix_caching: bool, is_registered: bool, kv_slots: int
) -> None:
    """The beginnings are shared or computed each time; the replies are the same."""
    vocab_size = loaded_model(folder).shape.vocab_size
    common = tuple(Prompt(21, seed=99).ids(vocab_size).tolist())
    kinds = (GREEDY, BEAMS, SAMPLINGS["3-cool"])
    requests = [
        Request(
            i, 0.03 * i, Prompt(21 + len(ids), token_ids=common + ids), replace(kinds[i % 3], max_tokens=9)
        )
        for i, ids in enumerate(prompts_of(folder))
    ]
    memory = Paged(kv_slots, BLOCK_SIZE, MAX_LEN, prefix_caching=prefix_caching)
    if is_registered:
        memory.register_prefix(Prompt(21, token_ids=common))
    record = serve(folder, requests, memory=memory)
    assert outputs_of(record) == outputs_of(serve(folder, requests, "orca-max"))
    hits = record.steps["prefix_hits"].sum()
    assert hits >= 7 * 16 if prefix_caching or is_registered else hits == 0
    assert kv_slots == ROOMY or record.steps["preemptions_swap"].any()


@pytest.mark.parametrize("folder", ["opt"], indirect=True)
@pytest.mark.parametrize("name", EVICTIONS)
def test_no_eviction_policy_changes_a_token(folder: Path, name: str) -> None:
    """Twelve requests of three conversations, in a pool that holds hardly two of them."""
    vocab_size = loaded_model(folder).shape.vocab_size
    texts = [tuple(Prompt(48, seed=seed).ids(vocab_size).tolist()) for seed in range(3)]
    lengths = (17, 24, 30, 25, 33, 40, 41, 32, 48, 44, 48, 20)
    prompts = [texts[index % 3][:length] for index, length in enumerate(lengths)]
    requests = [
        Request(index, 0.1 * index, Prompt(len(ids), token_ids=ids), SamplingParams(8))
        for index, ids in enumerate(prompts)
    ]
    policy = Ttl(0.5) if name == "ttl" else EVICTIONS[name]()
    memory = Paged(112, BLOCK_SIZE, MAX_LEN, prefix_caching=True, eviction=policy)
    memory.foresee(requests)
    record = serve(folder, requests, memory=memory)
    replies = [list(outputs[0]) for outputs in outputs_of(record)]
    assert replies == hugging_face_greedy(folder, prompts, [8] * len(prompts))
    assert record.steps["prefix_hits"].sum() > 0
    assert record.steps["evicted_blocks"].sum() == memory.num_evicted > 10


class Remembering(Simulated):
    """Keeps what was written to each slot, and finds out for itself which beginnings are really there."""

    def __init__(self, memory: Paged) -> None:
        super().__init__()
        self.memory = memory
        self.slots: dict[int, int] = {}
        self.num_found = 0

    def execute(self, batch: Batch) -> Samples:
        for prefill in batch.prefills:
            tokens = prefill.sequence.group.request.prompt.contents().tolist()
            slots = self.memory.placement(prefill.sequence).slots(0, prefill.stop)
            there = [self.slots.get(slot) for slot in slots[: prefill.start]]
            assert there == tokens[: prefill.start]
            self.num_found += prefill.start
            self.slots.update(zip(slots[prefill.start :], tokens[prefill.start :], strict=False))
        for sequence in batch.decodes:
            last = sequence.num_stored - 1
            (slot,) = self.memory.placement(sequence).slots(last, last + 1)
            self.slots[slot] = int(stored_contents(sequence, sequence.group.prompt_len)[-1])
        return super().execute(batch)


@pytest.mark.parametrize("name", EVICTIONS)
def test_every_hit_is_a_block_that_is_there(name: str) -> None:
    """Hits are counted again from what the slots hold: none is reported for a block that was evicted."""
    requests = [
        Request(i, 0.2 * i, Prompt(16 + i % 40, seed=i % 5), SamplingParams(4 + i % 9)) for i in range(120)
    ]
    memory = Paged(144, 4, 128, prefix_caching=True, eviction=EVICTIONS[name]())
    memory.foresee(requests)
    executor = Remembering(memory)
    record = engine_of("paged", memory, executor, "recompute").run(FixedArrivals(requests))
    assert record.steps["evicted_blocks"].sum() > 100
    assert record.steps["prefix_hits"].sum() == executor.num_found > 0
    assert not record.preemptions  # a preempted request's reply is looked up too


@pytest.mark.parametrize("folder", MODELS, indirect=True)
@pytest.mark.parametrize("is_text", [False, True])
def test_a_conversation_holds_the_replies_of_the_model_and_finds_them_again(
    folder: Path, is_text: bool
) -> None:
    """The same tokens in every system, and the same schedule in simulation."""
    lengths = ((9, 10), (5, 12), (7, 9))  # new text and reply of each turn
    vocab_size = loaded_model(folder).shape.vocab_size
    rows = []
    for number, session in enumerate("abc"):
        stop, text = 0, tuple(Prompt(60, seed=number).ids(vocab_size).tolist()) if is_text else None
        for prompt_len, output_len in lengths:
            stop += prompt_len
            own_len = stop if is_text else prompt_len
            rows.append(Row(own_len, output_len, text, session=session))
            stop += output_len
    dataset = Dataset("chat", tuple(rows), "invented", synthetic=False)
    trace = build_trace(dataset, Traffic(rate=math.inf), max_model_len=MAX_LEN)

    def memory() -> Paged:
        return Paged(ROOMY, BLOCK_SIZE, MAX_LEN, prefix_caching=True)

    requests = list(trace.requests)
    record = serve(folder, requests, memory=memory(), source=trace.arrivals())
    plain = serve(folder, requests, "orca-max", source=trace.arrivals())
    assert outputs_of(record) == outputs_of(plain)
    prompts = [tuple(item.request.prompt.ids(vocab_size).tolist()) for item in record.requests]
    replies = [outputs[0] for outputs in outputs_of(record)]
    own = [item.request.reply_len for item in record.requests]
    assert [list(reply) for reply in replies] == hugging_face_greedy(folder, prompts, own)
    for turn, wait in enumerate(trace.waits):
        if wait is not None:
            (before,) = wait.requests
            assert prompts[turn][: len(prompts[before]) + own[before]] == prompts[before] + replies[before]
    simulated = engine_of("paged", memory(), Simulated(), "auto").run(trace.arrivals())
    for name in ("prefix_hits", "prefix_queried", "prefill_tokens", "running"):
        assert simulated.steps[name].tolist() == record.steps[name].tolist(), name
    # 18 tokens of a first turn and its reply are stored, then 35, in blocks of 8.
    assert record.steps["prefix_hits"].sum() == 3 * (16 + 32)


@pytest.mark.parametrize("folder", ["opt"], indirect=True)
def test_the_prompt_of_parallel_samples_is_computed_once_or_each_time(folder: Path) -> None:
    requests = requests_of(folder, SamplingParams(1, n=3))
    num_prompt_tokens = sum(p for p, _ in LENGTHS)
    for system in SYSTEMS:
        record = serve(folder, requests, system)
        times = 1 if system == "paged" else 3
        assert record.steps["prefill_tokens"].sum() == times * num_prompt_tokens
