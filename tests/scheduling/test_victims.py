"""Victim policies: whom each chooses, that nobody starves under any, and what each computes again."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from pagedbench.clock import VirtualClock
from pagedbench.engine import Engine
from pagedbench.memory.paged import Paged
from pagedbench.metrics.recomputed import (
    num_recomputed,
    recompute_tax,
    recomputed_by_request,
    recomputed_by_step,
)
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, SequenceGroup
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.return_modes import RETURN_MODES
from pagedbench.scheduling.scheduler import Limits
from pagedbench.scheduling.victims import VICTIMS, LeastComputed, VictimPolicy
from pagedbench.simulation.executor import Simulated
from pagedbench.workload.arrivals import FixedArrivals
from scheduling.crowds import crowd, serve


def running(memory: Paged, *lengths: tuple[int, int, int]) -> list[SequenceGroup]:
    """Groups that run, of a prompt, tokens decoded so far, and tokens of the whole reply."""
    scheduler = IterationLevel(memory, Limits())
    for index, (prompt_len, _, output_len) in enumerate(lengths):
        scheduler.add(Request(index, 0.0, Prompt(prompt_len, index), SamplingParams(output_len)))
    scheduler.schedule()
    return list(scheduler.running.values())


def test_each_policy_chooses_by_its_question():
    memory = Paged(4096, 16, 1024)
    groups = running(memory, (40, 0, 100), (90, 0, 9), (40, 0, 60), (17, 0, 300), (17, 0, 300))
    chosen = {name: VICTIMS[name]().choose(groups, memory).order for name in VICTIMS if name != "random"}
    assert chosen == {
        "latest": 4,
        "least-computed": 4,  # 17 tokens like the one before, but later
        "most-freed": 1,
        "cheapest": 4,  # 17 tokens in two blocks
        "most-computed": 1,
        "oracle-shortest-left": 1,
    }


@pytest.mark.parametrize("name", [name for name in VICTIMS if name != "random"])
def test_of_equals_the_latest_is_chosen(name):
    memory = Paged(4096, 16, 1024)
    groups = running(memory, *[(40, 0, 60)] * 4)
    assert VICTIMS[name]().choose(groups, memory) is groups[-1]


def test_memory_that_others_use_is_not_freed():
    memory = Paged(4096, 16, 1024, prefix_caching=True)
    scheduler = IterationLevel(memory, Limits())
    for index, (prompt_len, seed) in enumerate(((64, 0), (100, 7), (64, 0))):
        scheduler.add(Request(index, 0.0, Prompt(prompt_len, seed), SamplingParams(9)))
    scheduler.schedule()
    groups = list(scheduler.running.values())
    assert [memory.num_reclaimable(group) for group in groups] == [16, 112, 16]  # three blocks are shared
    samples = SamplingParams(9, n=3, temperature=1.0)
    scheduler.add(Request(3, 0.0, Prompt(40, 9), samples))
    scheduler.schedule()
    assert memory.num_reclaimable(scheduler.running[3]) == 48  # one group's sharing is its own


def test_equal_runs_choose_alike_at_random():
    groups = running(Paged(4096, 16, 1024), *[(20, 0, 50)] * 9)
    choices = [[VICTIMS["random"]().choose(groups, Paged(64, 16, 64)).order] for _ in range(3)]
    policy, memory = VICTIMS["random"](), Paged(64, 16, 64)
    assert choices[0] == choices[1] == choices[2]
    assert len({policy.choose(groups, memory).order for _ in range(60)}) == 9


class Worst(VictimPolicy):
    """The oldest that may be chosen: the most that a policy can do against order of arrival."""

    def choose(self, candidates, memory):
        return candidates[0]


POLICIES = {**VICTIMS, "worst": Worst}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("preemption", RETURN_MODES)
@pytest.mark.parametrize("prefill", ["mixed", "separate", "chunked"])
@pytest.mark.parametrize("prefix_caching", [False, True])
def test_every_request_finishes_in_a_pool_for_one_and_a_half(name, preemption, prefill, prefix_caching):
    memory = Paged(4 * 26, 4, 64, prefix_caching=prefix_caching)
    limits = Limits(preemption=preemption, prefill=prefill, victim=POLICIES[name]())
    if prefill == "chunked":
        limits = replace(limits, max_num_batched_tokens=9)
    record = serve(crowd(name + preemption + prefill, 14, 24, outputs=(20, 20)), memory, limits)
    assert record.preemptions


def run_of(policy: VictimPolicy, kv_slots: int):
    """300 requests at once, prompts and replies of 120 tokens within 50 %: at most 86,400 tokens."""
    choose = random.Random(5)
    requests = [
        Request(i, 0.0, Prompt(choose.randint(60, 180), i), SamplingParams(choose.randint(60, 180)))
        for i in range(300)
    ]
    memory = Paged(kv_slots, 16, 1024)
    limits = Limits(preemption="recompute", victim=policy)
    engine = Engine(IterationLevel(memory, limits), memory, Simulated(), VirtualClock(lambda batch: 1.0))
    return engine.run(FixedArrivals(requests))


def test_recomputed_tokens_are_what_was_computed_beyond_the_trace():
    """Prompt and reply of every request are computed once, less the last token of the reply."""
    record = run_of(LeastComputed(), 6400)
    steps = record.steps
    needed = sum(item.request.prompt_len + item.request.reply_len - 1 for item in record.requests)
    computed = int(steps["prefill_tokens"].sum() + steps["decode_tokens"].sum())
    assert num_recomputed(record) == computed - needed > 0
    assert recompute_tax(record) == num_recomputed(record) / computed
    assert recomputed_by_step(record).sum() == recomputed_by_request(record).sum() == num_recomputed(record)
    assert (recomputed_by_step(record) <= steps["prefill_tokens"]).all()
    preempted = {item.victim.request.request_id for item in record.preemptions}
    assert set(recomputed_by_request(record).nonzero()[0].tolist()) <= preempted


@pytest.mark.parametrize("kv_slots", [6_400, 12_800, 25_600])
def test_the_order_of_the_field(kv_slots):
    """Least computed, latest, random, most computed, as others measured (vllm-project/vllm#54644)."""
    names = ("least-computed", "latest", "random", "most-computed")
    taxes = [recompute_tax(run_of(VICTIMS[name](), kv_slots)) for name in names]
    assert taxes == sorted(taxes)
    assert len(set(taxes)) == 4
