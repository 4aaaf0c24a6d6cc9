"""What a plan decides of the options that came with groups of sequences."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pagedbench.backend import load_backend
from pagedbench.config import ConfigError, RunConfig
from pagedbench.memory.paged import Paged
from pagedbench.plan import Plan, make_plan, with_length_of, with_room_for
from pagedbench.request import Prompt
from pagedbench.scheduling.iteration_level import IterationLevel

if TYPE_CHECKING:
    from pathlib import Path

LLAMA_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
}


def plan_of(**options: object) -> Plan:
    return make_plan(RunConfig(model="opt-13b", device="sim:a100-40gb", **options))


def test_the_batch_of_request_level_systems_is_smaller_for_wider_requests() -> None:
    def batch_size(**options: object) -> int | None:
        return plan_of(system="fastertransformer", **options).config.batch_size

    assert batch_size() == 7  # 15,696 slots of 2,048
    assert batch_size(n=3, temperature=1.0) == batch_size(beam_width=3) == 2
    assert batch_size(beam_width=32) == 1
    assert batch_size(beam_width=3, batch_size=5) == 5


def test_a_trace_may_be_wider_than_the_options() -> None:
    plan = plan_of(system="fastertransformer")
    assert with_room_for(plan, 3).config.batch_size == 2
    assert with_room_for(plan, 1) == plan
    assert with_room_for(plan_of(), 3) == plan_of()


def test_the_default_limit_follows_the_model_where_a_trace_is_longer(tmp_path: Path) -> None:
    config = {**LLAMA_7B, "max_position_embeddings": 4096}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    asked = RunConfig(system="fastertransformer", model=str(tmp_path), device="sim:a100-80gb")
    plan = make_plan(asked)
    assert with_length_of(plan, asked, 2047) is plan
    assert plan.config.max_model_len == 2048
    longer = with_length_of(plan, asked, 2048)
    assert longer == make_plan(replace(asked, max_model_len=4096))
    assert longer.config.batch_size == plan.config.batch_size // 2
    own = replace(asked, max_model_len=3000)
    assert with_length_of(make_plan(own), own, 9000).config.max_model_len == 3000
    opt = RunConfig(model="opt-13b", device="sim:a100-40gb")
    assert with_length_of(make_plan(opt), opt, 9000) == make_plan(opt)  # whose own limit is 2048


def test_swap_space_becomes_whole_blocks() -> None:
    assert plan_of().host_slots is None  # as large as the pool
    assert plan_of(swap_space="1GiB").host_slots == 2**30 // 819_200 // 16 * 16
    assert plan_of(swap_space="0").host_slots == 0
    with pytest.raises(ConfigError, match="write it like 12GiB"):
        plan_of(swap_space="much")


def test_options_reach_memory_and_scheduler() -> None:
    plan = plan_of(swap_space="1GiB", prefix_caching=True, preemption="swap")
    engine = load_backend(plan).make_engine(plan)
    assert isinstance(engine.memory, Paged)
    assert isinstance(engine.scheduler, IterationLevel)
    assert (engine.memory.num_host_slots, engine.memory.prefix_caching) == (plan.host_slots, True)
    assert engine.scheduler.limits.preemption == "swap"


def test_prefixes_are_pinned_where_memory_is_paged() -> None:
    prefixes = (Prompt(40, seed=1), Prompt(33, seed=2))
    for system, num_pinned in (("paged", 4), ("orca-max", 0)):
        plan = plan_of(system=system)
        memory = load_backend(plan).make_engine(plan, prefixes=prefixes).memory
        usage = memory.usage(head_refused=False)
        assert usage.capacity - usage.free == 16 * num_pinned
        assert memory.num_owned == 0  # pinned, but nobody's


def test_prefixes_that_fill_the_pool_are_refused() -> None:
    plan_of(shared_prefix_len=1600, shared_prefix_groups=9)
    with pytest.raises(ConfigError, match="take 1,000 blocks, but the KV pool has 981"):
        plan_of(shared_prefix_len=1600, shared_prefix_groups=10)
