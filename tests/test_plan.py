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
from pagedbench.pool import check_kv_dtype
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, SequenceGroup
from pagedbench.runs.manifest import plan_facts
from pagedbench.scheduling.batch import Batch
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.show.header import header_rows

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


def test_the_same_bytes_hold_twice_the_tokens_in_8_bits() -> None:
    wide, narrow = (plan_of(kv_dtype=kind) for kind in ("auto", "int8"))
    assert wide.kv_bytes - 16 * 422_400 < narrow.kv_bytes <= wide.kv_bytes  # down to whole blocks
    assert narrow.kv_bytes / narrow.kv_slots == (128 + 4) / 256 * wide.kv_bytes / wide.kv_slots
    assert plan_of(kv_dtype="int8", kv_memory="1GiB").kv_slots == 2**30 // 422_400 // 16 * 16
    assert any("; int8, a scale per token and head" in text for _, text in header_rows([narrow], []))
    assert any("decode attention reads 0.516 of the bytes" in text for _, text in header_rows([narrow], []))


def test_what_cannot_have_8_bits_is_refused() -> None:
    for cost_model in ("vllm-2023", "published"):
        with pytest.raises(ConfigError, match="choose modern or roofline, or leave out --kv-dtype int8"):
            plan_of(kv_dtype="int8", cost_model=cost_model)
    with pytest.raises(ConfigError, match="--kv-dtype is one of auto, int8, not 'int4'"):
        plan_of(kv_dtype="int4")
    odd = replace(plan_of().shape, head_dim=66)
    with pytest.raises(ConfigError, match="a multiple of 4, and those of opt-13b have 66: leave it out"):
        check_kv_dtype(RunConfig(kv_dtype="int8"), odd)


def test_decodes_over_8_bits_are_faster_by_the_bytes_that_they_do_not_read() -> None:
    sequence = SequenceGroup(Request(0, 0.0, Prompt(1, seed=0), SamplingParams(1)), 0).sequences[0]
    batches = [Batch(0, (), (sequence,) * 64, context, 64, 0, 0) for context in (0, 64 * 1000)]
    for cost_model in ("modern", "roofline"):
        times = []
        for kind in ("auto", "int8"):
            steps = plan_of(kv_dtype=kind, cost_model=cost_model).step_times
            assert steps is not None
            idle, full = (steps.step_time(batch) for batch in batches)
            times.append(full - idle)
        assert 0.5 < times[1] / times[0] < 0.6


def test_swap_space_becomes_whole_blocks() -> None:
    assert plan_of().host_slots is None  # as large as the pool
    assert plan_of(swap_space="1GiB").host_slots == 2**30 // 819_200 // 16 * 16
    assert plan_of(swap_space="0").host_slots == 0
    for text, message in (
        ("much", "write it like 12GiB"),
        ("400000000GiB", "--swap-space would have more"),
    ):
        with pytest.raises(ConfigError, match=message):
            plan_of(swap_space=text)


def test_pools_are_bounded_by_what_the_card_has_left() -> None:
    assert plan_of(kv_memory="12GiB").kv_slots == 12 * 2**30 // 819_200 // 16 * 16
    for options in ({"kv_memory": "500GiB"}, {"kv_slots": 16_000}):
        with pytest.raises(ConfigError, match=r"but opt-13b on 1 x a100-40gb leaves 12\.10 for keys"):
            plan_of(**options)
    with pytest.raises(ConfigError, match="leaves no memory"):
        make_plan(RunConfig(model="opt-66b", device="sim:a100-80gb", tensor_parallel_size=1, kv_slots=16))


def test_the_usable_share_sizes_the_pool() -> None:
    assert plan_of().num_blocks == 981  # the paper's
    by_rule, more = plan_of(gpu_memory_utilization=0.95), plan_of(gpu_memory_utilization=1.0)
    assert (by_rule.kv_slots, more.kv_slots) == (15_856, 18_432)
    assert plan_of(gpu_memory_utilization=1.0, kv_slots=18_432).kv_bytes == more.kv_bytes
    assert make_plan(more.config) == more
    with pytest.raises(ConfigError, match=r"12\.10 for keys"):
        plan_of(gpu_memory_utilization=0.95, kv_slots=18_432)
    for plan in (by_rule, more):
        rows = dict(plan.memory_plan)
        assert rows["left for the KV cache"] == rows["of it the KV pool"] + rows["of it unused"]
        assert rows["of it the KV pool"] == plan.kv_bytes
        assert 0 <= rows["of it unused"] < 16 * 819_200


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, 95.0, float("nan")])
def test_impossible_shares(share: float) -> None:
    with pytest.raises(ConfigError, match="a share above 0 and at most 1"):
        plan_of(gpu_memory_utilization=share)


def test_the_usable_share_is_a_simulated_cards() -> None:
    with pytest.raises(ConfigError, match="has no effect on a real device"):
        RunConfig(device="cpu", gpu_memory_utilization=0.9)


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


def test_headers_say_what_attention_takes_at_each_block_size() -> None:
    plans = [
        plan_of(block_size=size, system=system, cost_model="roofline")
        for size in (1, 16)
        for system in ("paged", "orca-max")
    ]
    rows = header_rows(plans, [])
    first = [label for label, _ in rows].index("Attention")
    words = [text for _, text in rows[first : first + 2]]
    assert [text.partition(";")[0] for text in words] == [
        "4.68 x contiguous at blocks of 1", "1.23 x contiguous at blocks of 16",
    ]  # fmt: skip
    assert all("paper" in text and "assuming" in text for text in words)
    assert plan_facts(plans[0])["attention_cost"] == words[0]
    assert plan_facts(plans[1])["attention_cost"] is None
    assert plans[0].cost_model == plans[2].cost_model  # one cost model: runs of both can be compared


def test_tiers_become_whole_blocks_and_need_a_cache() -> None:
    plan = plan_of(prefix_caching=True, host_cache="1GiB", disk_cache="2GiB")
    assert plan.tier_slots == (2**30 // 819_200 // 16 * 16, 2**31 // 819_200 // 16 * 16)
    assert plan_of().tier_slots == (0, 0)
    for options, words in {
        ("host_cache",): "--host-cache has no effect without --prefix-caching",
        ("disk_cache",): "--disk-cache has no effect without --prefix-caching",
        ("disk_cache_dir", "prefix_caching"): "--disk-cache-dir has no effect on a simulated device",
    }.items():
        values = {name: True if name == "prefix_caching" else "1GiB" for name in options}
        with pytest.raises(ConfigError, match=words):
            plan_of(**values)
    with pytest.raises(ConfigError, match="--host-cache 10 holds not even one block"):
        plan_of(prefix_caching=True, host_cache="10")


def test_an_engine_has_the_disk_of_its_tiers() -> None:
    plan = plan_of(prefix_caching=True, disk_cache="2GiB")
    engine = load_backend(plan).make_engine(plan)
    assert engine.memory.tiers is not None
    assert engine.memory.tiers.disk is engine.disk
    assert engine.memory.tiers.num_disk_slots == plan.tier_slots.disk
