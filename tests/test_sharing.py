"""What sharing saves, and that it changes no reply."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models.folders import hugging_face_greedy
from pagedbench.memory.paged import Paged
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
