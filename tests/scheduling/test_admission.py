"""Admission policies: who begins beside whom, that nobody starves, and what each avoids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedbench.clock import VirtualClock
from pagedbench.engine import Engine
from pagedbench.memory.paged import Paged
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.admission import ADMISSIONS, AdmissionPolicy
from pagedbench.scheduling.batch import BlockedBy
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.samples import Samples
from pagedbench.scheduling.scheduler import Limits
from pagedbench.scheduling.victims import VICTIMS
from pagedbench.simulation.executor import Simulated
from pagedbench.workload.arrivals import FixedArrivals
from scheduling.crowds import crowd, serve


def request_of(request_id, prompt_len, max_tokens, **sampling):
    return Request(request_id, 0.0, Prompt(prompt_len, request_id), SamplingParams(max_tokens, **sampling))


def scheduler_of(memory, admission, budget=2560):
    limits = Limits(prefill="chunked", max_num_batched_tokens=budget, admission=ADMISSIONS[admission]())
    return IterationLevel(memory, limits)


def step(scheduler):
    batch = scheduler.schedule()
    scheduler.memory.check_integrity()
    scheduler.update(batch, Samples())
    return batch


def test_only_who_is_sure_to_finish_begins():
    """Ten blocks: the first may come to need 5, the second 4, and one more is kept for growth."""
    for longest, is_admitted in ((16, True), (17, False)):
        memory = Paged(40, 4, 40, watermark=0.0)
        scheduler = scheduler_of(memory, "reserve")
        scheduler.add(request_of(0, 4, 17))  # 20 tokens stored at most, in 5 blocks
        scheduler.add(request_of(1, 1, longest))  # in 4 blocks, or 5
        batch = step(scheduler)
        assert len(scheduler.running) == 1 + is_admitted
        assert batch.blocked_by is (BlockedBy.NOTHING if is_admitted else BlockedBy.ADMISSION)


def test_a_request_that_needs_the_whole_pool_begins_when_nothing_runs():
    scheduler = scheduler_of(Paged(40, 4, 40, watermark=0.0), "reserve")
    scheduler.add(request_of(0, 4, 9))
    scheduler.add(request_of(1, 20, 20))
    for _ in range(9):
        assert step(scheduler).num_running == 1
    assert step(scheduler).prefills[0].sequence.group.request.request_id == 1


def test_what_memory_has_no_room_for_is_held_by_memory():
    scheduler = scheduler_of(Paged(40, 4, 40, watermark=0.0), "reserve")
    scheduler.add(request_of(0, 24, 4))
    scheduler.add(request_of(1, 24, 4))
    assert step(scheduler).blocked_by is BlockedBy.MEMORY


@given(st.data())
def test_reserving_preempts_nobody(data):
    """Whatever the lengths, numbers of samples, block sizes and prefixes that prompts share."""
    size = data.draw(st.integers(1, 5))
    memory = Paged(size * data.draw(st.integers(12, 40)), size, 60, prefix_caching=data.draw(st.booleans()))
    requests = []
    for index in range(12):
        length = data.draw(st.integers(1, 30))
        n = data.draw(st.sampled_from([1, 1, 2, 3]))
        sampling = SamplingParams(data.draw(st.integers(1, 20)), n=n, temperature=float(n > 1))
        requests.append(Request(index, 0.0, Prompt(length, index % 3), sampling))
    limits = Limits(
        prefill=data.draw(st.sampled_from(["mixed", "separate", "chunked"])),
        max_num_batched_tokens=data.draw(st.integers(3, 60)),
        admission=ADMISSIONS["reserve"](),
    )
    engine = Engine(IterationLevel(memory, limits), memory, Simulated(), VirtualClock(lambda batch: 1.0))
    record = engine.run(FixedArrivals(requests))
    assert not record.preemptions
    assert memory.num_owned == 0


# A part of a prompt


def test_a_prompt_takes_memory_part_by_part():
    memory = Paged(80, 4, 80, watermark=0.0)
    scheduler = scheduler_of(memory, "prompt-first-chunk", budget=10)
    scheduler.add(request_of(0, 33, 4))
    used = []
    for _ in range(4):
        step(scheduler)
        used.append((memory.pool.num_used, memory.usage(head_refused=False).token_states))
    assert used == [(3, 10), (5, 20), (8, 30), (9, 33)]


def test_a_prompt_begins_that_does_not_fit_yet():
    for admission, is_admitted in (("watermark", False), ("prompt-first-chunk", True)):
        memory = Paged(40, 4, 40, watermark=0.0)
        scheduler = scheduler_of(memory, admission, budget=12)
        scheduler.add(request_of(0, 11, 20))
        scheduler.add(request_of(1, 30, 4))
        step(scheduler)
        assert step(scheduler).num_running == 1 + is_admitted


def test_a_part_without_room_waits_for_those_that_decode():
    memory = Paged(44, 4, 40, watermark=0.0)
    scheduler = scheduler_of(memory, "prompt-first-chunk", budget=12)
    scheduler.add(request_of(0, 11, 6))
    scheduler.add(request_of(1, 33, 4))
    batches = [step(scheduler) for _ in range(9)]
    parts = [[(item.start, item.stop) for item in batch.prefills] for batch in batches]
    assert parts[:3] == [[(0, 11), (0, 1)], [(1, 12)], [(12, 23)]]
    assert parts[3:7] == [[], [], [], [(23, 33)]]  # once the first request has ended
    assert not any(batch.preemptions for batch in batches)


class AllParts(AdmissionPolicy):
    """Somebody's own."""

    admits_chunks = True

    def admits(self, head, running, memory):
        return len(running) % 2 == 0


POLICIES = {**ADMISSIONS, "own": AllParts}


@pytest.mark.parametrize("admission", POLICIES)
@pytest.mark.parametrize("victim", ["latest", "random", "most-computed"])
@pytest.mark.parametrize("preemption", ["recompute", "swap"])
@pytest.mark.parametrize("prefix_caching", [False, True])
def test_every_request_finishes_in_a_pool_for_one_and_a_half(admission, victim, preemption, prefix_caching):
    memory = Paged(4 * 34, 4, 96, prefix_caching=prefix_caching)
    limits = Limits(
        prefill="chunked", max_num_batched_tokens=9, preemption=preemption,
        victim=VICTIMS[victim](), admission=POLICIES[admission](),
    )  # fmt: skip
    serve(crowd(admission + victim + preemption, 16, 60, outputs=(20, 20)), memory, limits)
