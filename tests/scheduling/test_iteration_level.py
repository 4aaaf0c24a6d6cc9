"""The scheduler that counts only changes, against one that walks the paper's rules sequence by sequence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.execution.executor import Samples
from pagedbench.memory.contiguous import MaxReservation
from pagedbench.memory.paged import Paged
from pagedbench.request import Prompt, Request, SamplingParams, Status
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.scheduler import Limits

if TYPE_CHECKING:
    from pagedbench.scheduling.batch import Batch


def request_of(request_id: int, prompt_len: int, output_len: int) -> Request:
    return Request(request_id, 0.0, Prompt(prompt_len), SamplingParams(output_len))


@dataclass
class Job:
    """A request in the plain scheduler."""

    number: int
    prompt_len: int
    output_len: int
    num_generated: int = 0
    blocks: int = 0

    @property
    def length(self) -> int:
        return self.prompt_len + self.num_generated


@dataclass
class PlainScheduler:
    """The rules of the paper word by word, at a cost of everything that runs in every iteration."""

    num_blocks: int
    block_size: int
    limits: Limits
    waiting: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free = self.num_blocks
        self.watermark = int(0.01 * self.num_blocks)

    def blocks_for(self, length: int) -> int:
        return -(-length // self.block_size)

    def fits_alone(self, job: Job) -> bool:
        return self.blocks_for(job.prompt_len + job.output_len - 1) <= self.num_blocks - self.watermark

    def step(self) -> tuple[list[int], list[int], list[int]]:
        """One iteration: the numbers that decode, that are prefilled, and that are preempted."""
        decoding: list[Job] = []
        preempted: list[Job] = []
        pending, self.running = self.running, []
        while pending:
            job = pending.pop(0)
            while self.free < 1 and (pending or decoding):
                victim = pending.pop() if pending else job
                self.free += victim.blocks
                victim.blocks = 0
                preempted.append(victim)
                if victim is job:
                    break
            else:
                if self.blocks_for(job.length) > job.blocks:
                    job.blocks += 1
                    self.free -= 1
                decoding.append(job)
        self.waiting = sorted(self.waiting + preempted, key=lambda job: job.number)
        prefilled: list[Job] = []
        num_tokens = len(decoding)
        while self.waiting and not preempted:
            job = self.waiting[0]
            needed, budget = self.blocks_for(job.length), self.limits.max_num_batched_tokens
            if len(decoding) + len(prefilled) + 1 > self.limits.max_num_seqs:
                break
            if num_tokens + job.length > budget and not (job.length > budget and not prefilled):
                break
            if self.free - needed < self.watermark:
                break
            self.free -= needed
            job.blocks = needed
            num_tokens += job.length
            prefilled.append(self.waiting.pop(0))
        self.running = decoding + prefilled
        for job in self.running:
            job.num_generated += 1
        for job in [job for job in self.running if job.num_generated == job.output_len]:
            self.running.remove(job)
            self.free += job.blocks
        return ([j.number for j in decoding], [j.number for j in prefilled], [j.number for j in preempted])


def numbers(batch: Batch) -> tuple[list[int], list[int], list[int]]:
    return (
        [sequence.group.order for sequence in batch.decodes],
        [prefill.sequence.group.order for prefill in batch.prefills],
        [group.order for group in batch.preempted],
    )


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=12),
    late=st.integers(0, 10),
    num_blocks=st.integers(3, 150),
    block_size=st.sampled_from([1, 2, 4, 16]),
    max_num_seqs=st.sampled_from([1, 2, 5, 256]),
    budget=st.sampled_from([1, 8, 50, 2560]),
)
def test_equals_the_plain_rules(
    lengths: list[tuple[int, int]],
    late: int,
    num_blocks: int,
    block_size: int,
    max_num_seqs: int,
    budget: int,
) -> None:
    limits = Limits(max_num_seqs, budget)
    plain = PlainScheduler(num_blocks, block_size, limits)
    memory = Paged(num_blocks * block_size, block_size, 2048)
    scheduler = IterationLevel(memory, limits)
    jobs = [Job(i, p, o) for i, (p, o) in enumerate(lengths)]
    first = jobs[: len(jobs) - late] if late < len(jobs) else jobs[:1]
    arrivals = {0: first, 3: jobs[len(first) :]}
    finished: list[int] = []
    for iteration in range(3000):
        for job in arrivals.get(iteration, ()):
            scheduler.add(request_of(job.number, job.prompt_len, job.output_len))
            if plain.fits_alone(job):
                plain.waiting.append(job)
        batch = scheduler.schedule()
        memory.check_integrity()
        assert numbers(batch) == plain.step()
        assert memory.pool.num_free + memory.pool.num_used == num_blocks
        assert batch.decode_context == sum(sequence.num_stored for sequence in batch.decodes)
        assert batch.num_running == len(batch.decodes) + len(batch.prefills)
        scheduler.update(batch, Samples())
        assert memory.pool.num_free == plain.free
        finished += [group.order for group in scheduler.take_finished()]
        if iteration > 3 and not scheduler.has_unfinished:
            break
    assert not scheduler.has_unfinished  # nothing ever stalls
    assert sorted(finished) == [job.number for job in jobs]
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
    assert not any(batch.preempted for batch in batches)


def test_the_latest_arrival_is_preempted_and_computed_again() -> None:
    scheduler = IterationLevel(Paged(64, 16, 128), Limits())
    for i in range(2):
        scheduler.add(request_of(i, 30, 30))
    batches = run_to_the_end(scheduler)
    victims = [(batch.step, group.order) for batch in batches for group in batch.preempted]
    assert victims[0] == (1, 1)  # no block was left for anybody, although neither needed one yet
    assert {order for _, order in victims} == {1}
    recomputed = [prefill for batch in batches[2:] for prefill in batch.prefills]
    assert (recomputed[0].start, recomputed[0].stop) == (0, 31)


def test_contiguous_memory_never_preempts_and_refuses_the_head() -> None:
    scheduler = IterationLevel(MaxReservation(64, 16, 32), Limits())
    for i in range(3):
        scheduler.add(request_of(i, 10, 20))
    batches = run_to_the_end(scheduler)
    assert [batch.num_running for batch in batches] == [2] * 20 + [1] * 20
    assert [batch.head_refused for batch in batches] == [True] * 20 + [False] * 20


def test_a_head_refused_while_others_decode_is_reported_in_separate_iterations_too() -> None:
    scheduler = IterationLevel(MaxReservation(64, 16, 32), Limits(prefill="separate"))
    for i in range(3):
        scheduler.add(request_of(i, 10, 4))
    batches = run_to_the_end(scheduler)
    assert [(len(batch.prefills), batch.num_running) for batch in batches] == (
        [(2, 2)] + [(0, 2)] * 3 + [(1, 1)] + [(0, 1)] * 3
    )
    assert [batch.head_refused for batch in batches] == [True] * 4 + [False] * 4


def test_a_head_held_back_by_a_limit_was_not_refused_by_memory() -> None:
    scheduler = IterationLevel(Paged(640, 16, 128), Limits(max_num_seqs=1))
    for i in range(2):
        scheduler.add(request_of(i, 10, 5))
    assert not any(batch.head_refused for batch in run_to_the_end(scheduler))


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


@pytest.mark.parametrize(("prompt_len", "output_len"), [(60, 6), (65, 1)])
def test_what_can_never_fit_fails_at_once_and_alone(prompt_len: int, output_len: int) -> None:
    scheduler = IterationLevel(Paged(64, 16, 128), Limits())
    scheduler.add(request_of(0, prompt_len, output_len))
    scheduler.add(request_of(1, 5, 5))
    assert not scheduler.schedule().head_refused
    assert [(group.order, group.status) for group in scheduler.take_finished()] == [(0, Status.FAILED)]
    assert len(scheduler.running) == 1


def test_a_prompt_above_the_budget_runs_as_the_only_prompt() -> None:
    scheduler = IterationLevel(Paged(6400, 16, 2048), Limits(max_num_batched_tokens=50))
    for i, prompt_len in enumerate((30, 100, 20)):
        scheduler.add(request_of(i, prompt_len, 10))
    batches = [scheduler.schedule() for _ in range(3)]
    assert [[prefill.stop for prefill in batch.prefills] for batch in batches] == [[30], [100], [20]]
