"""Prompts that are computed over several iterations."""

from __future__ import annotations

import random

import pytest

from memory.contents import group_of
from pagedbench.clock import VirtualClock
from pagedbench.engine import Engine
from pagedbench.memory.contiguous import MaxReservation
from pagedbench.memory.paged import Paged
from pagedbench.prompt import Prompt, Segment
from pagedbench.request import Request, SamplingParams, Status
from pagedbench.scheduling.batch import PreemptionMode
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.samples import Samples
from pagedbench.scheduling.scheduler import Limits
from pagedbench.simulation.executor import Simulated
from pagedbench.workload.arrivals import FixedArrivals
from scheduling.in_chunks import InChunks


def request_of(request_id: int, prompt_len: int, max_tokens: int, n: int = 1, *, text: int = -1) -> Request:
    """Its prompt is a text that others may have, or one of its own."""
    prefix = (Segment(text, 0, prompt_len),) if text >= 0 else ()
    prompt = Prompt(prompt_len, seed=request_id, prefix=prefix)
    return Request(request_id, 0.0, prompt, SamplingParams(max_tokens, n))


def step(scheduler: IterationLevel) -> list[tuple[int, int, int, int]]:
    """One iteration. Returns the request, start, stop and number of samples of each prefill."""
    batch = scheduler.schedule()
    scheduler.memory.check_integrity()
    scheduler.update(batch, Samples())
    return [
        (item.sequence.group.order, item.start, item.stop, len(item.sampled)) for item in batch.prefills
    ]


def test_what_is_computed_and_what_is_stored() -> None:
    scheduler = InChunks(Paged(160, 4, 64), Limits(), max_chunk=6)
    scheduler.add(request_of(0, 10, 3))
    (group,) = scheduler.waiting
    (sequence,) = group.sequences
    seen = [(group.status, sequence.num_computed, sequence.num_stored, sequence.num_tokens)]
    while scheduler.has_unfinished:
        batch = scheduler.schedule()
        seen.append((group.status, sequence.num_computed, sequence.num_stored, sequence.num_tokens))
        scheduler.update(batch, Samples())
        assert sequence.num_computed == sequence.num_stored
        scheduler.take_finished()
    assert seen == [
        (Status.WAITING, 0, 0, 10),
        (Status.PREFILLING, 0, 6, 10),
        (Status.RUNNING, 6, 10, 10),
        (Status.RUNNING, 10, 11, 11),
        (Status.RUNNING, 11, 12, 12),
    ]
    assert (group.admit_step, group.spans[0].prefill_step, group.spans[0].num_tokens) == (0, 1, 3)


def test_only_the_last_part_samples() -> None:
    scheduler = InChunks(Paged(160, 4, 64), Limits(), max_chunk=5)
    scheduler.add(request_of(0, 12, 2, n=3))
    assert [step(scheduler) for _ in range(3)] == [[(0, 0, 5, 0)], [(0, 5, 10, 0)], [(0, 10, 12, 3)]]


def test_sequences_with_prompts_of_their_own_sample_in_the_same_iteration() -> None:
    """Each keeps a token for the last part, which may so be larger than a part."""
    scheduler = InChunks(MaxReservation(640, 4, 64), Limits(), max_chunk=3)
    scheduler.add(request_of(0, 4, 2, n=4))
    chunks = [step(scheduler) for _ in range(5)]
    assert chunks[:4] == [[(0, 0, 3, 0)]] * 4
    assert chunks[4] == [(0, 3, 4, 1)] * 4


def test_the_budget_counts_chunks() -> None:
    scheduler = InChunks(Paged(640, 4, 64), Limits(max_num_batched_tokens=16), max_chunk=8)
    for i in range(3):
        scheduler.add(request_of(i, 20, 2))
    assert [[(order, stop) for order, _, stop, _ in step(scheduler)] for _ in range(4)] == [
        [(0, 8), (1, 8)],
        [(0, 16), (1, 16)],
        [(0, 20), (1, 20), (2, 8)],
        [(2, 16)],
    ]


@pytest.mark.parametrize("when", ["in the same iteration", "in the next"])
def test_others_find_a_block_of_a_prompt_once_it_is_computed(when: str) -> None:
    memory = Paged(640, 4, 64, prefix_caching=True)
    scheduler = InChunks(memory, Limits(), max_chunk=10)
    scheduler.add(request_of(0, 33, 2, text=0))
    prefills = [] if when == "in the same iteration" else step(scheduler)
    scheduler.add(request_of(1, 33, 2, text=0))
    prefills += step(scheduler)
    found = {order: start for order, start, _, _ in prefills if order == 1}
    assert found == {
        1: 8 if when == "in the same iteration" else 20
    }  # of 10 and of 20 tokens, whole blocks


def test_an_aborted_prompt_leaves_the_blocks_that_it_has_computed() -> None:
    memory = Paged(160, 4, 64, prefix_caching=True)
    scheduler = InChunks(memory, Limits(), max_chunk=10)
    scheduler.add(request_of(0, 33, 2, text=0))
    step(scheduler)
    assert memory.num_owned == 36
    assert scheduler.abort(0)
    assert (memory.num_owned, scheduler.num_sequences, scheduler.num_prefilling) == (0, 0, 0)
    memory.check_integrity()
    assert [group.status for group in scheduler.take_finished()] == [Status.ABORTED]
    assert memory.prefill_len(group_of(1, 0, 5, shared_len=33)) == 33 - 8


def test_an_aborted_prompt_leaves_the_rest_of_a_registered_prefix_to_the_next() -> None:
    memory = Paged(160, 4, 64)
    memory.register_prefix(Prompt(16, prefix=(Segment(0, 0, 16),)))
    scheduler = InChunks(memory, Limits(), max_chunk=9)
    scheduler.add(request_of(0, 20, 2, text=0))
    assert step(scheduler) == [(0, 0, 9, 0)]
    scheduler.abort(0)
    scheduler.add(request_of(1, 20, 2, text=0))
    assert [step(scheduler) for _ in range(2)] == [[(1, 8, 17, 0)], [(1, 17, 20, 1)]]


@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_a_prompt_is_preempted_before_it_is_complete(preemption: str) -> None:
    """The first request takes the last free block, so that its next token could need one more."""
    memory = Paged(4 * 14, 4, 64)
    scheduler = InChunks(memory, Limits(preemption=preemption), max_chunk=5)
    scheduler.add(request_of(0, 4, 40))
    for _ in range(20):
        step(scheduler)
    scheduler.add(request_of(1, 28, 5))
    chunks, victims = [], []
    while scheduler.has_unfinished:
        batch = scheduler.schedule()
        victims += batch.preemptions
        memory.check_integrity()
        scheduler.update(batch, Samples())
        chunks += [(item.start, item.stop) for item in batch.prefills]
        scheduler.take_finished()
    assert chunks == [(0, 5), (5, 10), (0, 5), *((i, min(i + 5, 28)) for i in range(0, 28, 5))]
    assert {item.mode for item in victims} == {PreemptionMode.RECOMPUTE}  # too little to swap
    assert [(item.tokens_lost, item.blocks_freed) for item in victims] == [(10, 7), (5, 7)]
    assert (scheduler.num_prefilling, memory.num_owned) == (0, 0)


@pytest.mark.parametrize("preemption", ["recompute", "swap"])
@pytest.mark.parametrize("prefill", ["mixed", "separate"])
def test_a_crowded_pool_serves_every_request(prefill: str, preemption: str) -> None:
    dice = random.Random(1)
    requests = [
        request_of(i, dice.randint(1, 40), dice.randint(1, 20), n=dice.choice([1, 1, 3])) for i in range(60)
    ]
    memory = Paged(4 * 40, 4, 64)
    scheduler = InChunks(memory, Limits(prefill=prefill, preemption=preemption), max_chunk=7)
    engine = Engine(scheduler, memory, Simulated(), VirtualClock(lambda batch: 1.0))
    record = engine.run(FixedArrivals(requests))
    assert [item.status for item in record.requests] == [Status.FINISHED] * 60
    for request, item in zip(requests, record.requests, strict=True):
        assert item.num_tokens == len(item.token_times(record.steps)) == request.reply_len
        assert item.admit_time + (request.prompt_len - 1) // 7 < item.token_times(record.steps)[0]
    assert record.preemptions
    assert record.owned_at_end == 0


def test_a_long_prompt_leaves_the_budget_to_others() -> None:
    limits = Limits(prefill="chunked", max_num_batched_tokens=10, max_chunk_len=4)
    scheduler = IterationLevel(Paged(160, 4, 64), limits)
    for request_id, prompt_len in enumerate((9, 3, 6)):
        scheduler.add(request_of(request_id, prompt_len, 3))
    assert step(scheduler) == [(0, 0, 4, 0), (1, 0, 3, 1), (2, 0, 3, 0)]
    assert step(scheduler) == [(0, 4, 8, 0), (2, 3, 6, 1)]
    assert step(scheduler) == [(0, 8, 9, 1)]
