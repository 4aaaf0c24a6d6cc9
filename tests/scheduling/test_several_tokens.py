"""Executors that return several tokens of a sequence in one step."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.clock import VirtualClock
from pagedbench.config import RunConfig
from pagedbench.engine import Engine
from pagedbench.memory.paged import Paged
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, Status
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.samples import Samples
from pagedbench.scheduling.scheduler import Limits
from pagedbench.systems import SYSTEMS, build_memory, build_scheduler
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from pagedbench.scheduling.batch import Batch

STOP = 9


class Several:
    """Says 1, 2, 3 ..., one to three tokens a step, whatever the length of the reply or the stop token."""

    def __init__(self) -> None:
        self.num_returned = 0

    def execute(self, batch: Batch) -> Samples:
        samples = Samples()
        started = [sequence for prefill in batch.prefills for sequence in prefill.sampled]
        for sequence in [*started, *batch.decodes]:
            if sequence.has_ended:
                continue  # in a closed batch
            length = len(sequence.output_ids)
            dice = random.Random(f"{sequence.group.order} {length}")
            count = 1 if sequence in started else dice.randint(1, 3)
            samples.sequences.append(sequence)
            samples.counts.append(count)
            samples.tokens.extend(range(length + 1, length + count + 1))
            samples.logprobs.extend([-1.0] * count)
            self.num_returned += count
        return samples


def engine_of(system: str, *, kv_slots: int = 640, **options: object) -> Engine:
    config = RunConfig(system=system, block_size=4, max_model_len=80, batch_size=4, **options)
    memory = build_memory(config, kv_slots)
    memory.num_lookahead = 2
    return Engine(build_scheduler(config, memory), memory, Several(), VirtualClock(lambda batch: 1.0))


def request_of(request_id: int, prompt_len: int, max_tokens: int, n: int = 1, *, stop: int = 0) -> Request:
    stops = (stop,) if stop else ()
    return Request(request_id, 0.0, Prompt(prompt_len), SamplingParams(max_tokens, n, stop_token_ids=stops))


@pytest.mark.parametrize("system", SYSTEMS)
def test_replies_have_their_exact_lengths_and_each_token_its_time(system: str) -> None:
    engine = engine_of(system)
    requests = [request_of(i, 5 + i, 1 + 3 * i, n=1 + i % 2) for i in range(12)]
    record = engine.run(FixedArrivals(requests))
    for request, item in zip(requests, record.requests, strict=True):
        length = request.reply_len
        assert [output.token_ids for output in item.outputs] == [tuple(range(1, length + 1))] * (
            request.sampling.n
        )
        assert item.outputs[0].cumulative_logprob == -length
        times = item.token_times(record.steps)
        assert item.num_tokens == len(times) == length
        assert np.all(np.diff(times) >= 0)
        assert np.unique(times, return_counts=True)[1].max() <= 3
        assert length < 10 or len(np.unique(times)) < length  # several in a step
        assert times[-1] <= item.finish_time
    num_tokens = sum(request.reply_len * request.sampling.n for request in requests)
    assert engine.recorder.num_tokens == num_tokens < engine.executor.num_returned
    decoded = num_tokens - sum(request.sampling.n for request in requests)
    assert record.steps["decode_tokens"].sum() == decoded
    assert record.owned_at_end == 0
    engine.memory.check_integrity()


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_stop_token_in_the_middle_of_a_step_ends_the_reply(system: str) -> None:
    engine = engine_of(system)
    requests = [request_of(i, 7, 60, n=1 + i % 2, stop=STOP + i) for i in range(8)]
    record = engine.run(FixedArrivals(requests))
    for i, item in enumerate(record.requests):
        assert {output.token_ids for output in item.outputs} == {tuple(range(1, STOP + i + 1))}
        assert item.num_tokens == STOP + i
    assert engine.executor.num_returned > sum(
        len(output.token_ids) for item in record.requests for output in item.outputs
    )
    assert record.owned_at_end == 0


def test_a_step_may_decide_what_the_next_would_and_another_grows_at_the_same_time() -> None:
    memory = Paged(64, 4, 64)
    memory.num_lookahead = 2
    scheduler = IterationLevel(memory, Limits())
    for i in range(2):
        scheduler.add(request_of(i, 4, 9))
    first, second = (group.sequences[0] for group in scheduler.waiting)
    scheduler.update(scheduler.schedule(), Samples([first, second], [1, 1], [0.0, 0.0]))
    batch = scheduler.schedule()
    assert [len(memory.placement(item).slots(0, 7)) for item in batch.decodes] == [7, 7]  # room for three
    num_more = scheduler.update(batch, Samples([first, second], [2, 3, 4, 2], [0.0] * 4, counts=[3, 1]))
    assert num_more == 2
    assert (first.num_stored, second.num_stored) == (7, 5)
    assert scheduler.schedule().decode_context == 8 + 6
    memory.check_integrity()


def test_more_tokens_than_there_are_slots_for_are_an_error() -> None:
    memory = Paged(64, 4, 64)
    memory.num_lookahead = 2
    scheduler = IterationLevel(memory, Limits())
    scheduler.add(request_of(0, 4, 9))
    (sequence,) = scheduler.waiting[0].sequences
    batch = scheduler.schedule()
    with pytest.raises(AssertionError, match="no slots"):  # the prompt's iteration gives one
        scheduler.update(batch, Samples([sequence], [1, 2], [0.0] * 2, counts=[2]))
    sequence.output_ids.clear()
    scheduler.update(batch, Samples([sequence], [1], [0.0]))
    with pytest.raises(AssertionError, match="no slots"):
        scheduler.update(scheduler.schedule(), Samples([sequence], [2, 3, 4, 5], [0.0] * 4, counts=[4]))


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_crowded_pools_preempt_and_serve_every_request(seed: int) -> None:
    dice = random.Random(seed)
    preemption = dice.choice(["recompute", "swap"])
    engine = engine_of("paged", kv_slots=4 * dice.randint(25, 60), preemption=preemption)
    requests = [
        request_of(i, dice.randint(1, 30), dice.randint(1, 30), n=dice.choice([1, 1, 2])) for i in range(15)
    ]
    record = engine.run(FixedArrivals(requests))
    for request, item in zip(requests, record.requests, strict=True):
        assert item.status is Status.FINISHED
        assert item.num_tokens == len(item.outputs[0].token_ids) == request.reply_len
    assert record.owned_at_end == 0
    engine.memory.check_integrity()
