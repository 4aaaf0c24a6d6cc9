"""The prefix cache alone, against others' figures, another program, and a direct count."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.clock import VirtualClock
from pagedbench.engine import Engine
from pagedbench.memory.evictions import EVICTIONS
from pagedbench.memory.paged import Paged
from pagedbench.prompt import Blocks, Prompt, Segment
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.scheduler import Limits
from pagedbench.simulation.cache_alone import (
    HitRate,
    PromptBlocks,
    full_blocks,
    lru_curve,
    simulate_cache,
    stored_blocks,
)
from pagedbench.simulation.executor import Simulated
from pagedbench.workload.arrivals import FixedArrivals
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from pathlib import Path

CAPACITIES = (409, 1_638, 6_553, 26_214)
FIELD = {
    "conversation": {
        "lru": (4.5, 5.2, 15.3, 33.0),
        "fifo": (4.3, 5.1, 14.3, 29.0),
        "belady": (12.6, 24.5, 38.6, 39.8),
    },
    "synthetic": {
        "lru": (5.3, 19.6, 48.8, 82.6),
        "fifo": (4.6, 18.8, 45.6, 76.7),
        "belady": (23.7, 45.6, 73.9, 86.3),
    },
}
"""Percent of the tokens of the second half of the requests, counted by kvcache-simulator 0.1.3."""


@cache
def mooncake(data: Path, name: str) -> list[PromptBlocks]:
    rows = load_dataset(data / "mooncake" / f"{name}_trace.jsonl.gz").rows
    return stored_blocks(prompt_of(row.blocks.ids, row.prompt_len) for row in rows if row.blocks)


def prompt_of(ids: tuple[int, ...], length: int, size: int = 512) -> Prompt:
    return Prompt(length, prefix=(Blocks(ids, size, min(length, size * len(ids))),))


@pytest.mark.parametrize("name", FIELD)
def test_lru_at_all_capacities_is_the_table_of_the_field(name: str, test_data: Path) -> None:
    curve = lru_curve(mooncake(test_data, name))
    found = [100 * curve.at(capacity)[1].share for capacity in CAPACITIES]
    assert found == pytest.approx(FIELD[name]["lru"], abs=0.06)  # rounded to 0.1
    ceiling = {"conversation": 39.8, "synthetic": 86.3}[name]
    assert 100 * curve.at(10**9)[1].share == pytest.approx(ceiling, abs=0.06)


@pytest.mark.parametrize(
    ("name", "policy", "capacity"),
    [
        ("synthetic", "fifo", 1_638),
        ("synthetic", "belady", 26_214),
        ("synthetic", "lru", 6_553),
        ("conversation", "fifo", 409),
        ("conversation", "belady", 6_553),
    ],
)
def test_policies_are_the_table_of_the_field(
    name: str, policy: str, capacity: int, test_data: Path
) -> None:
    requests = mooncake(test_data, name)
    result = simulate_cache(requests, capacity, EVICTIONS[policy]())
    expected = FIELD[name][policy][CAPACITIES.index(capacity)]
    assert 100 * result.warm.share == pytest.approx(expected, abs=0.06)
    assert result.is_full
    assert result.num_evicted > 0
    if policy == "lru":
        assert (result.cold, result.warm) == lru_curve(requests).at(capacity)


def tree_requests(
    choose: random.Random, number: int, *, deepest: int = 8, width: int = 3
) -> list[tuple[tuple[int, ...], int]]:
    """Block ids of prompts that branch off each other at random, and their lengths; blocks of 16 tokens."""
    ids: dict[tuple[int, ...], int] = {}
    requests = []
    for _ in range(number):
        path: tuple[int, ...] = ()
        numbers = []
        for _ in range(choose.randint(1, deepest)):
            path += (min(int(choose.expovariate(0.7)), width),)
            numbers.append(ids.setdefault(path, len(ids)))
        requests.append((tuple(numbers), 16 * len(numbers) - choose.randint(0, 15)))
    return requests


def blocks_of(requests: list[tuple[tuple[int, ...], int]]) -> list[PromptBlocks]:
    return stored_blocks(prompt_of(ids, length, 16) for ids, length in requests)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), capacity=st.integers(1, 30), deepest=st.integers(1, 12))
def test_no_policy_finds_more_than_belady_and_lru_is_its_curve(
    seed: int, capacity: int, deepest: int
) -> None:
    requests = blocks_of(tree_requests(random.Random(seed), 120, deepest=deepest))
    requests = [
        PromptBlocks(item.keys, [1] * len(item.keys), len(item.keys), len(item.keys)) for item in requests
    ]
    found = {name: simulate_cache(requests, capacity, EVICTIONS[name]()) for name in EVICTIONS}
    assert all(result.cold.num_hits <= found["belady"].cold.num_hits for result in found.values())
    assert (found["lru"].cold, found["lru"].warm) == lru_curve(requests).at(capacity)


def test_every_capacity_of_the_curve_is_lru_simulated() -> None:
    requests = blocks_of(tree_requests(random.Random(3), 90))
    curve = lru_curve(requests)
    for capacity in range(1, len(curve.cold) + 2):
        result = simulate_cache(requests, capacity, EVICTIONS["lru"]())
        assert (result.cold, result.warm) == curve.at(capacity)


def test_a_request_larger_than_the_cache_keeps_its_beginning() -> None:
    requests = blocks_of([((0, 1, 2, 3), 64), ((0, 1, 2, 3), 60)])
    for name in ("lru", "belady", "lfu", "gdsf"):
        result = simulate_cache(requests, 2, EVICTIONS[name]())
        assert result.cold == HitRate(32, 64 + 60)
        assert result.warm == HitRate(32, 60)
    assert lru_curve(requests).at(2)[0] == HitRate(32, 124)


def test_partial_blocks_count_only_where_the_trace_has_ids_for_them() -> None:
    prompts = [prompt_of((0, 1), 20, 16), prompt_of((0, 1), 20, 16)]
    asked = [Request(index, 0.0, prompt, SamplingParams(1)) for index, prompt in enumerate(prompts)]
    stored, full = stored_blocks(prompts), full_blocks(asked, 4)
    assert [item.num_tokens for item in stored] == [[16, 4]] * 2
    assert [len(item.keys) for item in full] == [5, 5]
    for requests, num_hits in ((stored, 20), (full, 16)):  # an engine computes the last token
        result = simulate_cache(requests, 9, EVICTIONS["lru"]())
        assert result.cold == HitRate(num_hits, 40)
        assert not result.is_full
        assert result.num_evicted == 0
    assert lru_curve(full_blocks(asked, 16)).at(9)[0] == HitRate(16, 40)


def chats(number: int, turns: int) -> list[Request]:
    """Turns of conversations, one after the other: each prompt holds the prompts and replies before it."""
    choose, requests, lengths = random.Random(number), list[Request](), [0] * number
    for turn in range(turns):
        for chat in range(number):
            prompt_len, reply_len = lengths[chat] + choose.randint(3, 40), choose.randint(2, 40)
            lengths[chat] = prompt_len + reply_len
            prompt = Prompt(prompt_len, prefix=(Segment(chat, 0, prompt_len),))
            requests.append(Request(turn * number + chat, float(turn), prompt, SamplingParams(reply_len)))
    return requests


@pytest.mark.parametrize("capacity", [30, 60, 100, 10_000])
def test_replies_are_found_as_an_engine_finds_them(capacity: int) -> None:
    """One request at a time, so that none is in flight: an engine's cache and the cache alone agree."""
    requests = chats(6, 5)
    longest = max(request.final_len for request in requests)
    alone = simulate_cache(full_blocks(requests, 8), 10_000, EVICTIONS["lru"]())
    memory = Paged(8 * 10_000, 8, longest + 1, prefix_caching=True, watermark=0.0)
    limits = Limits(max_num_seqs=1)
    engine = Engine(IterationLevel(memory, limits), memory, Simulated(), VirtualClock(lambda batch: 1.0))
    engine.run(FixedArrivals(requests))
    assert (alone.cold.num_hits, alone.cold.num_queried) == (
        memory.num_prefix_hits,
        memory.num_prefix_queried,
    )
    assert alone.cold.num_hits > 0
    limited = simulate_cache(full_blocks(requests, 8), capacity, EVICTIONS["lru"]())
    assert (limited.cold, limited.warm) == lru_curve(full_blocks(requests, 8)).at(capacity)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("capacity", [8, 13, 30, 60])
def test_equals_another_program(seed: int, capacity: int, tmp_path: Path) -> None:
    """kvcache-simulator (KVCache.AI), which counts the second half of the requests."""
    reason = "pip install kvcache-simulator (the dev extra)"
    trace = pytest.importorskip("kvcache_sim.trace", reason=reason)
    plan = pytest.importorskip("kvcache_sim.plan", reason=reason)
    policies = pytest.importorskip("kvcache_sim.policies", reason=reason)
    requests = tree_requests(random.Random(seed), 500)
    file = tmp_path / "blocks.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for index, (ids, length) in enumerate(requests):
            row = {"timestamp": index, "input_length": length, "output_length": 1, "hash_ids": ids}
            lines.write(json.dumps({**row, "block_size": 16}) + "\n")
    theirs = plan.build_execution_plan(trace.parse_trace_file(file))
    rows = load_dataset(file).rows
    ours = stored_blocks(prompt_of(row.blocks.ids, row.prompt_len, 16) for row in rows if row.blocks)
    for name, their_name in (("lru", "lru"), ("fifo", "fifo"), ("belady", "optimal")):
        expected = policies.simulate_policy(theirs, their_name, capacity)
        assert expected.measurementMode == "fixed_window"
        found = simulate_cache(ours, capacity, EVICTIONS[name]())
        assert found.warm == HitRate(expected.hitTokens, expected.totalTokens), name
