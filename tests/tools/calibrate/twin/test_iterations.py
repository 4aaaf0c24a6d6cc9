"""The iterations of a simulated server are told apart, with the batches that it really had."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pagedbench.loadgen.observation import Observation
from pagedbench.loadgen.wire import Failure
from pagedbench.tools.calibrate.twin.iterations import iterations_of
from pagedbench.tools.calibrate.twin.loads import designed_loads, probe
from tools.calibrate.twin.servers import limits, plan_with
from tools.calibrate.twin.simulated_server import SimulatedServer

MODES = ("mixed", "separate", "chunked")


def batches(record):
    """Decodes and prompt tokens of every iteration -> how many there were."""
    steps = record.steps
    return Counter(zip(steps["decode_tokens"].tolist(), steps["prefill_tokens"].tolist(), strict=True))


def seen_batches(seen):
    return Counter((item.load.decodes, item.load.tokens - item.load.decodes) for item in seen)


@pytest.mark.parametrize("prefill", MODES)
@pytest.mark.parametrize("noise", [{}, {"noise": 0.05, "delay": 0.002, "jitter": 1e-4, "merged": 0.01}])
def test_every_batch_that_is_seen_was_there(prefill, noise):
    server = SimulatedServer(plan_with(prefill=prefill), **noise)
    bounds = limits(is_chunked=prefill == "chunked")
    for trace in [probe(bounds, 0), *designed_loads(bounds, 0)]:
        seen = iterations_of(trace.requests, server.send(trace), bounds)
        real = batches(server.records[-1])
        wrong = seen_batches(seen) - real
        assert wrong.total() <= 0.04 * real.total() if noise else not wrong, trace.name
        assert len(seen) >= 0.8 * len(server.records[-1].steps), trace.name


def test_times_and_contexts_are_exact_without_noise():
    server, bounds = SimulatedServer(plan_with(), delay=0.25), limits()
    (trace, *_) = designed_loads(bounds, 0)
    seen = iterations_of(trace.requests, server.send(trace), bounds)
    steps = server.records[-1].steps
    assert len(seen) == len(steps)
    assert [item.load.paged_context for item in seen][:3] == [0, 9, 10]  # the first prompt has 8 tokens
    expected = steps.end - steps.start + 0.25 * np.array([item.num_idle for item in seen])
    assert [item.seconds for item in seen] == pytest.approx(expected.tolist())
    assert sum(item.num_idle for item in seen) == len(trace.requests)


def test_iterations_of_prompts_that_may_have_been_cut_are_left_out():
    bounds = limits(batched_tokens=512, is_chunked=True)
    plan = plan_with(prefill="chunked", max_num_batched_tokens=512)
    server = SimulatedServer(plan)
    burst = next(trace for trace in designed_loads(bounds, 0) if "burst of 8, prompts of 4" in trace.name)
    seen = iterations_of(burst.requests, server.send(burst), bounds)
    assert not seen_batches(seen) - batches(server.records[-1])
    assert seen


def test_failed_requests_and_empty_replies_are_left_out():
    bounds = limits()
    trace = probe(bounds, 0)
    nothing = Observation(0, 0.0, 0.0, np.empty(0), None, 0.0)
    failed = Observation(1, 0.0, 0.0, np.array([1.0, 2.0]), None, 2.0, failure=Failure.TIMEOUT)
    assert iterations_of(trace.requests, [nothing, failed], bounds) == []
