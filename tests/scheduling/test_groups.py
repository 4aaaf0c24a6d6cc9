"""Parallel samples and beams through every system: each reads what its ancestors wrote, nothing else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.config import RunConfig
from pagedbench.memory.contiguous import MaxReservation
from pagedbench.memory.manager import Allocation, KVManager
from pagedbench.memory.paged import Paged
from pagedbench.prompt import Prompt, Segment
from pagedbench.request import Request, SamplingParams, SequenceGroup, Status
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.samples import Samples
from pagedbench.scheduling.scheduler import Limits, Scheduler
from pagedbench.systems import SYSTEMS, build_memory, build_scheduler
from scheduling.in_chunks import InChunks
from scheduling.named_tokens import NamedTokens, expected_outputs

MAX_MODEL_LEN = 64
PREEMPTIONS = ("auto", "swap", "recompute")


def request_of(dice: random.Random, request_id: int) -> Request:
    """Prompts begin alike, so that caches have something to find; four in ten search with beams."""
    width = dice.choice([1, 1, 2, 3, 5])
    is_beam = dice.random() < 0.4
    sampling = SamplingParams(
        dice.randint(1, 20), n=1 if is_beam else width, beam_width=width if is_beam else None
    )
    shared_len, own_len = dice.choice([0, 5, 16]), dice.randint(1, 20)
    prefix = (Segment(dice.randint(0, 1), 0, shared_len),)
    return Request(request_id, 0.0, Prompt(shared_len + own_len, 100 + request_id, prefix=prefix), sampling)


def run_to_the_end(
    scheduler: Scheduler, memory: KVManager, requests: list[Request], most: int = 1
) -> dict[int, SequenceGroup]:
    """Half of the requests come at once, the others one by one; up to `most` tokens in a step."""
    executor = NamedTokens(memory, most)
    late = list(requests)
    finished: dict[int, SequenceGroup] = {}
    for iteration in range(5000):
        for _ in range(len(requests) // 2 if iteration == 0 else 1):
            if late:
                scheduler.add(late.pop(0))
        batch = scheduler.schedule()
        memory.check_integrity()
        if batch:
            scheduler.update(batch, executor.execute(batch))
            memory.check_integrity()
            sequences = [item for group in scheduler.running.values() for item in group.sequences]
            assert all(sequence.num_computed == sequence.num_stored for sequence in sequences)
        finished |= {group.order: group for group in scheduler.take_finished()}
        if not late and not scheduler.has_unfinished:
            return finished
    raise AssertionError("somebody never finishes")


def check(finished: dict[int, SequenceGroup], requests: list[Request]) -> None:
    for request in requests:
        group = finished[request.request_id]
        if group.status is Status.FAILED:
            continue
        for sequence, (tokens, score) in zip(group.sequences, expected_outputs(request), strict=True):
            assert sequence.output_ids == tokens
            assert sequence.cumulative_logprob == (-len(tokens) if score is None else score)
        assert sum(span.num_tokens for span in group.spans) == request.reply_len


@pytest.mark.parametrize("system", SYSTEMS)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_everybody_gets_the_tokens_of_their_ancestors(system: str, seed: int) -> None:
    dice = random.Random(seed)
    requests = [request_of(dice, i) for i in range(dice.randint(1, 10))]
    block_size = dice.choice([1, 4, 8])
    config = RunConfig(
        system=system, block_size=block_size, max_model_len=MAX_MODEL_LEN, batch_size=dice.randint(1, 4),
        max_num_batched_tokens=dice.choice([30, 2560]), preemption=dice.choice(PREEMPTIONS),
        prefill=dice.choice(["mixed", "separate"]),
    )  # fmt: skip
    num_slots = dice.choice([160, 320]) if system == "paged" else dice.choice([400, 1600])
    memory = build_memory(config, num_slots)
    if system == "paged":
        host_slots = dice.choice([0, 40, 400])
        memory = paged = Paged(
            num_slots, block_size, MAX_MODEL_LEN, host_slots=host_slots, prefix_caching=dice.random() < 0.5
        )
        if dice.random() < 0.5:
            paged.register_prefix(Prompt(16, prefix=(Segment(0, 0, 16),)))
    scheduler = build_scheduler(config, memory)
    if isinstance(scheduler, IterationLevel) and dice.random() < 0.5:
        scheduler = InChunks(memory, scheduler.limits, max_chunk=dice.choice([1, 3, 7]))
    finished = run_to_the_end(scheduler, memory, requests, most=dice.choice([1, 3]))
    check(finished, requests)
    assert memory.num_owned == 0


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32))
def test_a_group_that_may_start_can_always_finish_alone(seed: int) -> None:
    dice = random.Random(seed)
    request = request_of(dice, 0)
    block_size = dice.choice([1, 4, 16])
    num_slots = block_size * dice.randint(1, 240 // block_size)
    memory = Paged(num_slots, block_size, MAX_MODEL_LEN, prefix_caching=dice.random() < 0.5)
    if dice.random() < 0.5 and num_slots > 16:
        memory.register_prefix(Prompt(16, prefix=(Segment(0, 0, 16),)))
    is_possible = memory.can_allocate(SequenceGroup(request, 0)) is not Allocation.NEVER
    scheduler = IterationLevel(memory, Limits(preemption=dice.choice(PREEMPTIONS)))
    finished = run_to_the_end(scheduler, memory, [request])
    assert finished[0].status is (Status.FINISHED if is_possible else Status.FAILED)
    assert finished[0].num_preemptions == 0
    check(finished, [request])


@pytest.mark.parametrize("block_size", [1, 4, 16])
@pytest.mark.parametrize(("prompt_len", "output_len", "n"), [(9, 8, 1), (9, 8, 4), (16, 17, 3), (33, 2, 5)])
def test_never_begins_exactly_where_a_group_would_not_fit(
    prompt_len: int, output_len: int, n: int, block_size: int
) -> None:
    request = Request(0, 0.0, Prompt(prompt_len), SamplingParams(output_len, n))
    roomy = Paged(3200, block_size, MAX_MODEL_LEN)
    scheduler = IterationLevel(roomy, Limits())
    scheduler.add(request)
    peak = 0
    while scheduler.has_unfinished:
        batch = scheduler.schedule()
        peak = max(peak, roomy.pool.num_used)
        scheduler.update(batch, Samples())
        scheduler.take_finished()
    for num_blocks, answer in ((peak, Allocation.OK), (peak - 1, Allocation.NEVER)):
        tight = Paged(num_blocks * block_size, block_size, MAX_MODEL_LEN)
        assert tight.watermark_blocks == int(0.01 * num_blocks)
        assert tight.can_allocate(SequenceGroup(request, 0)) is answer


def test_a_prompt_counts_once_where_it_is_shared_and_n_times_where_it_is_not() -> None:
    requests = [Request(i, 0.0, Prompt(20), SamplingParams(5, n=3)) for i in range(3)]
    limits = Limits(max_num_batched_tokens=50)
    batches = []
    for memory in (Paged(800, 4, MAX_MODEL_LEN), MaxReservation(1600, 4, MAX_MODEL_LEN)):
        scheduler = IterationLevel(memory, limits)
        for request in requests:
            scheduler.add(request)
        batches.append(scheduler.schedule())
    paged, contiguous = batches
    assert (paged.num_running, paged.num_prefill_tokens) == (2, 40)
    assert [len(prefill.sampled) for prefill in paged.prefills] == [3, 3]
    assert (contiguous.num_running, contiguous.num_prefill_tokens) == (1, 60)  # above the budget, alone
    assert [len(prefill.sampled) for prefill in contiguous.prefills] == [1, 1, 1]


def test_sequences_are_limited_and_a_wider_group_fails() -> None:
    scheduler = IterationLevel(Paged(800, 4, MAX_MODEL_LEN), Limits(max_num_seqs=4))
    for i, n in enumerate((3, 5, 2)):
        scheduler.add(Request(i, 0.0, Prompt(8), SamplingParams(5, n=n)))
    assert [(group.order, group.status) for group in scheduler.take_finished()] == [(1, Status.FAILED)]
    assert scheduler.schedule().num_running == 1
