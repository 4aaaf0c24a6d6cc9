"""What evictions cost: held against what a cache that loses nothing finds more."""

from __future__ import annotations

import random

import pytest

from pagedbench.clock import VirtualClock
from pagedbench.engine import Engine
from pagedbench.memory.evictions import EVICTIONS
from pagedbench.memory.paged import Paged
from pagedbench.metrics.pool_observer import observe
from pagedbench.prompt import Prompt, Segment
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.scheduler import Limits
from pagedbench.simulation.executor import Simulated
from pagedbench.workload.arrivals import FixedArrivals

SIZE = 4


def prompts(number: int) -> list[Request]:
    """Prompts that begin like one of nine texts, and all differ at their ends."""
    choose = random.Random(3)
    requests = []
    for index in range(number):
        shared = SIZE * choose.randint(1, 9)
        text = Segment(choose.randrange(9), 0, shared)
        prompt = Prompt(shared + choose.randint(1, 6), seed=100 + index, prefix=(text,))
        requests.append(Request(index, float(index), prompt, SamplingParams(choose.randint(1, 5))))
    return requests


def observed(num_blocks: int, policy: str = "lru", **tiers: int):
    """One request at a time, so that nothing else holds memory."""
    memory = Paged(
        SIZE * num_blocks,
        SIZE,
        60,
        prefix_caching=True,
        watermark=0.0,
        eviction=EVICTIONS[policy](),
        **tiers,
    )
    scheduler = IterationLevel(memory, Limits(max_num_seqs=1))
    engine = Engine(scheduler, memory, Simulated(), VirtualClock(lambda batch: 1.0))
    log = observe(scheduler, memory, SIZE)
    record = engine.run(FixedArrivals(prompts(120)))
    return memory, log.eviction_costs.rows(), record


@pytest.mark.parametrize("num_blocks", [16, 24, 40])
@pytest.mark.parametrize("policy", ["lru", "fifo", "s3-fifo"])
def test_tokens_computed_again_are_those_that_an_unlimited_cache_finds_more(num_blocks, policy):
    unlimited, nothing, _ = observed(4_000)
    memory, costs, record = observed(num_blocks, policy)
    assert nothing == []
    assert memory.num_evicted > 0
    lost = unlimited.num_prefix_hits - memory.num_prefix_hits
    assert lost > 0
    again = sum(tokens for _, _, tokens in costs)
    if policy == "lru":
        assert again == lost
    else:  # behind a block that was evicted, others may still be there that are computed again, too
        assert 0 < again <= lost
    for cost, blocks, tokens in costs:
        assert tokens == SIZE * blocks
        assert cost.step <= cost.again_step < len(record.steps)  # one may evict what it is about to compute
        assert cost.cause_id is not None
        assert cost.cause_id <= cost.again_id


def test_what_comes_back_from_the_host_is_not_computed_again():
    memory, costs, _ = observed(16, host_cache_slots=4_000 * SIZE)
    assert memory.num_evicted > 0
    assert costs == []


def test_what_expires_makes_room_for_nobody():
    class Brief(EVICTIONS["ttl"]):
        def __init__(self):
            super().__init__(2.0)

    memory = Paged(4_000, SIZE, 60, prefix_caching=True, eviction=Brief())
    scheduler = IterationLevel(memory, Limits(max_num_seqs=1))
    engine = Engine(scheduler, memory, Simulated(), VirtualClock(lambda batch: 1.0))
    log = observe(scheduler, memory, SIZE)
    engine.run(FixedArrivals(prompts(60)))
    rows = log.eviction_costs.rows()
    assert rows
    assert {cost.cause_id for cost, _, _ in rows} == {None}
