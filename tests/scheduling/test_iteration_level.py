"""The scheduler that counts only changes, against one that walks the paper's rules sequence by sequence."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.memory.contiguous import MaxReservation, OracleReservation
from pagedbench.memory.paged import Paged
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, Status
from pagedbench.scheduling.batch import BlockedBy, PreemptionMode
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.samples import Samples
from pagedbench.scheduling.scheduler import Limits
from scheduling.plain import Events, Job, PlainScheduler

if TYPE_CHECKING:
    from pagedbench.request import SequenceGroup
    from pagedbench.scheduling.batch import Batch

RECOMPUTE = PreemptionMode.RECOMPUTE


def request_of(request_id: int, prompt_len: int, output_len: int, n: int = 1) -> Request:
    return Request(request_id, 0.0, Prompt(prompt_len), SamplingParams(output_len, n))


def events_of(batch: Batch) -> Events:
    """What the plain scheduler tells about an iteration."""
    swapped_in = {
        sequence.group.order: None for sequence in batch.decodes if _came_back(sequence.group, batch)
    }
    return Events(
        decoding=[sequence.group.order for sequence in batch.decodes],
        prefilled=list(dict.fromkeys(prefill.sequence.group.order for prefill in batch.prefills)),
        recomputed=[group.order for group in batch.preempted(PreemptionMode.RECOMPUTE)],
        swapped_out=[group.order for group in batch.preempted(PreemptionMode.SWAP)],
        swapped_in=list(swapped_in),
        preempted=[(item.victim.order, item.cause.order, item.blocks_freed) for item in batch.preemptions],
        num_copies=len(batch.copies),
        num_prompt_tokens=batch.num_prefill_tokens,
        num_blocks_out=len(batch.swap_outs),
        num_blocks_in=len(batch.swap_ins),
    )


def _came_back(group: SequenceGroup, batch: Batch) -> bool:
    span = group.spans[-1]
    return span.prefill_step is None and span.first + 1 == batch.decode_step


@dataclass(frozen=True)
class Case:
    """Requests as (prompt, output, n), how many of them come late, a pool and its limits."""

    jobs: list[tuple[int, int, int]]
    late: int
    num_blocks: int
    block_size: int
    host_blocks: int
    limits: Limits


def case_of(seed: int) -> Case:
    """Requests that crowd a pool which holds little more than the largest of them."""
    dice = random.Random(seed)
    block_size = dice.choice([1, 2, 4, 16])
    widths = dice.choice([[1], [1, 2, 3], [2, 4, 6], [1, 1, 1, 5]])
    jobs = [
        (dice.randint(1, 40), dice.randint(1, 40), dice.choice(widths)) for _ in range(dice.randint(1, 14))
    ]
    largest = max(-(-prompt_len // block_size) + n * -(-out // block_size) for prompt_len, out, n in jobs)
    return Case(
        jobs=jobs,
        late=dice.randint(0, 10),
        num_blocks=max(int(largest * dice.choice([0.7, 1.0, 1.3, 2.0, 3.0])), 2),
        block_size=block_size,
        host_blocks=dice.choice([0, largest // 2, largest, 10 * largest]),
        limits=Limits(
            max_num_seqs=dice.choice([1, 6, 256, 256]),
            max_num_batched_tokens=dice.choice([1, 50, 2560, 2560]),
            preemption=dice.choice(["auto", "auto", "swap", "recompute"]),
        ),
    )


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_equals_the_plain_rules(seed: int) -> None:
    case = case_of(seed)
    plain = PlainScheduler(case.num_blocks, case.block_size, case.host_blocks, case.limits)
    host_slots = case.host_blocks * case.block_size
    memory = Paged(case.num_blocks * case.block_size, case.block_size, 2048, host_slots=host_slots)
    scheduler = IterationLevel(memory, case.limits)
    jobs = [Job(i, *job) for i, job in enumerate(case.jobs)]
    num_first = max(len(jobs) - case.late, 1)
    arrivals = {0: jobs[:num_first], 3: jobs[num_first:]}
    failed: list[int] = []
    finished: dict[int, SequenceGroup] = {}
    for iteration in range(4000):
        for job in arrivals.get(iteration, ()):
            scheduler.add(request_of(job.number, job.prompt_len, job.output_len, job.n))
            failed += [job.number] * (not plain.add(job))
        batch = scheduler.schedule()
        memory.check_integrity()
        assert events_of(batch) == plain.step()
        assert batch.decode_context == sum(sequence.num_stored for sequence in batch.decodes)
        assert (batch.num_waiting, batch.num_swapped) == (len(plain.waiting), len(plain.swapped))
        scheduler.update(batch, Samples())
        assert memory.pool.num_free == plain.free
        assert memory.host.pool.num_free == plain.host_free
        finished |= {group.order: group for group in scheduler.take_finished()}
        if iteration > 3 and not scheduler.has_unfinished:
            break
    assert not scheduler.has_unfinished  # nothing ever stalls
    assert [job.number for job in jobs if job.number not in finished] == []
    for job in jobs:
        is_failed = job.number in failed
        assert finished[job.number].status is (Status.FAILED if is_failed else Status.FINISHED)
        num_tokens = sum(span.num_tokens for span in finished[job.number].spans)
        assert num_tokens == (0 if is_failed else job.output_len)
    assert memory.usage(head_refused=False).free == memory.num_slots


def run_to_the_end(scheduler: IterationLevel) -> list[Batch]:
    batches = []
    while scheduler.has_unfinished:
        batch = scheduler.schedule()
        batches.append(batch)
        scheduler.update(batch, Samples())
        scheduler.take_finished()
    return batches


def test_a_lone_request_may_use_every_block() -> None:
    scheduler = IterationLevel(Paged(64, 16, 128), Limits())
    scheduler.add(request_of(0, 30, 35))
    batches = run_to_the_end(scheduler)
    assert len(batches) == 35
    assert not any(batch.preemptions for batch in batches)


def test_the_latest_arrival_is_preempted_and_computed_again() -> None:
    scheduler = IterationLevel(Paged(64, 16, 128), Limits())
    for i in range(2):
        scheduler.add(request_of(i, 30, 30))
    batches = run_to_the_end(scheduler)
    victims = [(batch.step, group.order) for batch in batches for group in batch.preempted(RECOMPUTE)]
    assert victims[0] == (1, 1)  # no block was left for anybody, although neither needed one yet
    assert {order for _, order in victims} == {1}
    recomputed = [prefill for batch in batches[2:] for prefill in batch.prefills]
    assert (recomputed[0].start, recomputed[0].stop) == (0, 31)
    log = [item for batch in batches for item in batch.preemptions]
    assert (log[0].victim.order, log[0].cause.order, log[0].mode) == (1, 0, RECOMPUTE)
    assert sum(item.tokens_lost for item in log) == sum(part.num_tokens - 1 for part in recomputed)
    assert [item.resumed_step for item in log] == [batch.step for batch in batches[2:] if batch.prefills]


def test_contiguous_memory_never_preempts_and_refuses_the_head() -> None:
    scheduler = IterationLevel(MaxReservation(64, 16, 32), Limits())
    for i in range(3):
        scheduler.add(request_of(i, 10, 20))
    batches = run_to_the_end(scheduler)
    assert [batch.num_running for batch in batches] == [2] * 20 + [1] * 20
    assert [batch.blocked_by for batch in batches] == [BlockedBy.MEMORY] * 20 + [BlockedBy.NOTHING] * 20


def test_a_head_refused_while_others_decode_is_reported_in_separate_iterations_too() -> None:
    scheduler = IterationLevel(MaxReservation(64, 16, 32), Limits(prefill="separate"))
    for i in range(3):
        scheduler.add(request_of(i, 10, 4))
    batches = run_to_the_end(scheduler)
    assert [(len(batch.prefills), batch.num_running) for batch in batches] == (
        [(2, 2)] + [(0, 2)] * 3 + [(1, 1)] + [(0, 1)] * 3
    )
    assert [batch.blocked_by for batch in batches] == [BlockedBy.MEMORY] * 4 + [BlockedBy.NOTHING] * 4


def test_a_head_held_back_by_a_limit_was_not_refused_by_memory() -> None:
    scheduler = IterationLevel(Paged(640, 16, 128), Limits(max_num_seqs=1))
    for i in range(2):
        scheduler.add(request_of(i, 10, 5))
    reasons = [batch.blocked_by for batch in run_to_the_end(scheduler)]
    assert reasons == [BlockedBy.SEQUENCES] * 5 + [BlockedBy.NOTHING] * 5


def test_separate_prompts_come_first_and_stall_the_decodes() -> None:
    scheduler = IterationLevel(Paged(640, 16, 128), Limits(prefill="separate"))
    scheduler.add(request_of(0, 10, 4))
    first = scheduler.schedule()
    scheduler.update(first, Samples())
    scheduler.add(request_of(1, 7, 2))
    batches = [first, *run_to_the_end(scheduler)]
    assert [(len(batch.decodes), len(batch.prefills)) for batch in batches] == [
        (0, 1),
        (0, 1),
        (2, 0),
        (1, 0),
        (1, 0),
    ]
    assert [batch.decode_step for batch in batches] == [None, None, 1, 2, 3]


def test_free_slots_in_the_wrong_pieces_are_fragmentation() -> None:
    scheduler = IterationLevel(OracleReservation(16 * 12, 16, 128), Limits())  # chunks of 8 and 4 blocks
    for i, length in enumerate((70, 70, 30)):
        scheduler.add(request_of(i, length, 10))
    assert scheduler.schedule().blocked_by is BlockedBy.MEMORY
    scheduler = IterationLevel(OracleReservation(16 * 12, 16, 128), Limits())
    for i, length in enumerate((20, 50, 70)):  # 2 and 4 blocks of 12: 6 are left, but no 8 in a row
        scheduler.add(request_of(i, length, 10))
    assert scheduler.schedule().blocked_by is BlockedBy.FRAGMENTATION


@pytest.mark.parametrize(("prompt_len", "output_len"), [(60, 6), (65, 1)])
def test_what_can_never_fit_fails_at_once_and_alone(prompt_len: int, output_len: int) -> None:
    scheduler = IterationLevel(Paged(64, 16, 128), Limits())
    scheduler.add(request_of(0, prompt_len, output_len))
    scheduler.add(request_of(1, 5, 5))
    assert scheduler.schedule().blocked_by is BlockedBy.NOTHING
    assert [(group.order, group.status) for group in scheduler.take_finished()] == [(0, Status.FAILED)]
    assert len(scheduler.running) == 1


def test_a_prompt_that_does_not_fit_beside_the_decodes_runs_with_them_as_the_only_prompt() -> None:
    for prompt_len in (29, 30, 31, 50, 51):
        scheduler = IterationLevel(Paged(6400, 16, 2048), Limits(max_num_batched_tokens=50))
        for i in range(22):
            scheduler.add(request_of(i, 1, 40))
        scheduler.schedule()
        for i in range(22, 24):
            scheduler.add(request_of(i, prompt_len, 10))
        first, second = scheduler.schedule(), scheduler.schedule()
        assert [len(batch.prefills) for batch in (first, second)] == [1, 1]
        assert (first.blocked_by, second.blocked_by) == (BlockedBy.TOKENS, BlockedBy.NOTHING)


def test_a_prompt_above_the_budget_runs_as_the_only_prompt() -> None:
    scheduler = IterationLevel(Paged(6400, 16, 2048), Limits(max_num_batched_tokens=50))
    for i, prompt_len in enumerate((30, 100, 20)):
        scheduler.add(request_of(i, prompt_len, 10))
    batches = [scheduler.schedule() for _ in range(3)]
    assert [[prefill.stop for prefill in batch.prefills] for batch in batches] == [[30], [100], [20]]
