"""Hybrid: the contract with windows, and requests that read their own tokens in every layer group."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import pytest

from memory.contract import check_contract
from pagedbench.clock import VirtualClock
from pagedbench.engine import Engine
from pagedbench.memory.groups.hybrid import Hybrid
from pagedbench.memory.layer_group import LayerGroup, equal_groups, num_padded_layers
from pagedbench.memory.pool_spec import PoolSpec
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.scheduler import Limits
from pagedbench.workload.arrivals import FixedArrivals
from scheduling.named_tokens import NamedTokens, expected_outputs

if TYPE_CHECKING:
    from pagedbench.memory.paged import Paged

FULL, NARROW = LayerGroup((0, 1)), LayerGroup((2, 3), window=4)
SINKS = LayerGroup((4, 5), window=5, sinks=2)
GROUPS = {
    "window and all": (FULL, NARROW),
    "sinks and all": (SINKS, FULL),
    "three": (NARROW, FULL, SINKS),
    "window": (NARROW,),
}
PREFILLS = ("mixed", "separate", "chunked")


@pytest.mark.parametrize("name", GROUPS)
def test_it_keeps_the_contract(name: str) -> None:
    class Grouped(Hybrid):
        @classmethod
        def build(cls, pool: PoolSpec) -> Self:
            return cls(replace(pool, layer_groups=GROUPS[name]))

    def pinned_blocks(memory: Paged) -> set[int]:
        return memory.index.pinned

    counts = check_contract(Grouped, pinned_blocks, num_operations=800)
    assert min(counts["host_hits"], counts["device_to_host"]) > 0


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("prefill", PREFILLS)
@pytest.mark.parametrize("preemption", ["swap", "recompute"])
def test_requests_read_their_own_tokens(name: str, prefill: str, preemption: str) -> None:
    """Pools from the least that serves all on, with samples, beams, hits, and several tokens a step."""
    num_preempted = 0
    for seed in range(4):
        chance = random.Random(f"{name} {prefill} {seed}")
        chunk_len = chance.randint(6, 30)
        pool = PoolSpec(
            chance.randint(34, 44) * 3 * len(GROUPS[name]), 3, 64, layer_groups=GROUPS[name],
            prefix_caching=chance.random() < 0.5, max_chunk_len=chunk_len if prefill == "chunked" else None,
        )  # fmt: skip
        memory = Hybrid(pool)
        limits = Limits(prefill=prefill, preemption=preemption, max_num_batched_tokens=chunk_len)
        executor = NamedTokens(memory, most=chance.choice([1, 1, 3]))
        engine = Engine(IterationLevel(memory, limits), memory, executor, VirtualClock(lambda batch: 1.0))
        requests = [request_of(number, chance) for number in range(24)]
        record = engine.run(FixedArrivals(requests))
        memory.check_integrity()
        assert record.owned_at_end == 0
        for request, item in zip(requests, record.requests, strict=True):
            assert [list(output.token_ids) for output in item.outputs] == [
                tokens for tokens, _ in expected_outputs(request)
            ]
        num_preempted += (
            record.steps["preemptions_swap"].sum() + record.steps["preemptions_recompute"].sum()
        )
    assert num_preempted > 0


def request_of(number: int, chance: random.Random) -> Request:
    width = chance.choice([1, 1, 2, 3])
    is_search = width > 1 and chance.random() < 0.5
    sampling = SamplingParams(
        chance.randint(1, 20), n=1 if is_search else width, beam_width=width if is_search else None,
        temperature=0.0 if width == 1 or is_search else 1.0,
    )  # fmt: skip
    prompt_len = chance.randint(1, 30)
    return Request(number, 0.0, Prompt(prompt_len, token_ids=(7,) * prompt_len), sampling)


@pytest.mark.parametrize(
    ("num_windowed", "num_full", "size", "num_padded"),
    [(40, 8, 8, 0), (52, 10, 10, 8), (12, 12, 12, 0), (27, 9, 9, 0), (13, 13, 13, 0), (25, 5, 5, 0)],
)
def test_layers_are_divided_into_equal_groups(
    num_windowed: int, num_full: int, size: int, num_padded: int
) -> None:
    """Gemma 3 12B and 27B, gpt-oss, Ministral, Gemma 2, and six to one."""
    full = tuple(range(num_full))
    windowed = tuple(range(num_full, num_full + num_windowed))
    groups = equal_groups((LayerGroup(windowed, 1024), LayerGroup(full)))
    assert max(len(group.layers or ()) for group in groups) == size
    assert num_padded_layers(groups) == num_padded
    assert sorted(layer for group in groups for layer in group.layers or ()) == [*full, *windowed]
    assert {group.window for group in groups if set(group.layers or ()) <= set(full)} == {None}


def test_one_kind_of_layers_is_one_group() -> None:
    assert equal_groups((LayerGroup(window=4096),)) == (LayerGroup(window=4096),)
