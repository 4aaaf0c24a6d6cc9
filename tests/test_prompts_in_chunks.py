"""A real model computes prompts in chunks: the tokens are those of whole prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pagedbench.memory.paged import Paged
from serving import (
    BEAMS,
    BLOCK_SIZE,
    GREEDY,
    MAX_LEN,
    ROOMY,
    SAMPLINGS,
    outputs_of,
    reference_greedy,
    requests_of,
    serve,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.metrics.records import RunRecord

pytestmark = pytest.mark.usefixtures("one_thread")

TIGHT = 96


def expected_of(folder: Path) -> list[list[tuple[int, ...]]]:
    return [[tuple(ids)] for ids in reference_greedy(folder)]


@pytest.mark.parametrize("folder", ["opt", "llama"], indirect=True)
@pytest.mark.parametrize("system", ["paged", "orca-pow2"])
@pytest.mark.parametrize("max_chunk", [1, 7, 17])
def test_greedy_tokens_are_those_of_hugging_face(folder: Path, system: str, max_chunk: int) -> None:
    record = serve(folder, requests_of(folder, GREEDY), system, max_chunk=max_chunk)
    assert outputs_of(record) == expected_of(folder)
    for item in record.requests:
        assert item.spans[0].prefill_step == (item.request.prompt_len - 1) // max_chunk


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_preempted_prompts_are_computed_again(folder: Path, preemption: str) -> None:
    record = serve(folder, requests_of(folder, GREEDY), "paged", TIGHT, preemption, max_chunk=6)
    assert record.preemptions
    assert outputs_of(record) == expected_of(folder)


def whole_and_in_chunks(
    folder: Path, kv_slots: int, *, prefix_caching: bool, **chunks: int
) -> tuple[RunRecord, RunRecord]:
    """Samples, beams and greedy replies of the same prompts twice, computed whole and in chunks.

    The second ones find blocks while the first are computed.
    """
    first = requests_of(folder, SAMPLINGS["2"], BEAMS, GREEDY)
    requests = [*first, *(replace(item, request_id=len(first) + item.request_id) for item in first)]

    def run(**options: int) -> RunRecord:
        memory = Paged(kv_slots, BLOCK_SIZE, MAX_LEN, prefix_caching=prefix_caching)
        return serve(folder, requests, memory=memory, **options)

    return run(), run(**chunks)


@pytest.mark.parametrize("folder", ["opt"], indirect=True)
@pytest.mark.parametrize("prefix_caching", [False, True])
def test_samples_and_beams_are_those_of_whole_prompts(folder: Path, prefix_caching: bool) -> None:
    whole, chunks = whole_and_in_chunks(folder, ROOMY, prefix_caching=prefix_caching, max_chunk=9)
    assert outputs_of(chunks) == outputs_of(whole)
    assert {item.spans[0].prefill_step for item in whole.requests} == {0}
    assert max(item.spans[0].prefill_step for item in chunks.requests) == 3  # 33 tokens, 9 at a time
    assert (chunks.steps["prefix_hits"].sum() > 0) == prefix_caching


# Chunks within a token budget


@pytest.mark.parametrize("folder", ["opt", "llama"], indirect=True)
@pytest.mark.parametrize("system", ["paged", "orca-pow2"])
@pytest.mark.parametrize("budget", [1, 5, 11, 40])
def test_chunks_within_a_budget_give_the_tokens_of_hugging_face(
    folder: Path, system: str, budget: int
) -> None:
    record = serve(folder, requests_of(folder, GREEDY), system, chunked=budget)
    assert outputs_of(record) == expected_of(folder)
    steps = record.steps
    computed = steps["prefill_tokens"] + steps["decode_tokens"]
    assert (steps["prefill_tokens"] <= (budget - steps["decode_tokens"]).clip(min=0)).all()
    assert computed.max() == max(budget, steps["decode_tokens"].max())


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
@pytest.mark.parametrize("preemption", ["recompute", "swap"])
@pytest.mark.parametrize("prefix_caching", [False, True])
def test_preempted_chunks_are_computed_again(folder: Path, preemption: str, prefix_caching: bool) -> None:
    memory = Paged(TIGHT, BLOCK_SIZE, MAX_LEN, prefix_caching=prefix_caching)
    record = serve(folder, requests_of(folder, GREEDY), preemption=preemption, memory=memory, chunked=12)
    assert record.preemptions
    assert outputs_of(record) == expected_of(folder)


@pytest.mark.parametrize("folder", ["opt"], indirect=True)
@pytest.mark.parametrize("kv_slots", [ROOMY, 160])
@pytest.mark.parametrize("prefix_caching", [False, True])
def test_chunks_of_samples_and_beams_give_the_tokens_of_whole_prompts(
    folder: Path, prefix_caching: bool, kv_slots: int
) -> None:
    whole, chunks = whole_and_in_chunks(folder, kv_slots, prefix_caching=prefix_caching, chunked=13)
    assert outputs_of(chunks) == outputs_of(whole)
    assert kv_slots == ROOMY or chunks.preemptions


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
@pytest.mark.parametrize("preemption", ["recompute", "swap"])
@pytest.mark.parametrize("admission", ["reserve", "prompt-first-chunk"])
@pytest.mark.parametrize("prefix_caching", [False, True])
def test_every_admission_gives_the_tokens_of_hugging_face(
    folder: Path, preemption: str, admission: str, prefix_caching: bool
) -> None:
    memory = Paged(TIGHT, BLOCK_SIZE, MAX_LEN, prefix_caching=prefix_caching)
    requests = requests_of(folder, GREEDY)
    record = serve(
        folder, requests, "paged", TIGHT, preemption, memory=memory, chunked=7, admission=admission
    )
    assert outputs_of(record) == expected_of(folder)
    assert bool(record.preemptions) == (admission != "reserve")
