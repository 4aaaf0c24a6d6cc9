"""Layers with windows: every system emits the same tokens, whatever the manager has freed by then."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.dense import greedy_reply
from models.folders import make_llama_folder
from pagedbench.memory.groups.hybrid import Hybrid
from pagedbench.memory.layer_group import LayerGroup, equal_groups
from pagedbench.memory.pool_spec import PoolSpec
from serving import BEAMS as FOUR_BEAMS
from serving import (
    GREEDY,
    LENGTHS,
    MAX_LEN,
    SAMPLINGS,
    SMALL_BEAMS,
    loaded_model,
    outputs_of,
    prompts_of,
    requests_of,
    serve,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.metrics.records import RunRecord
    from pagedbench.request import Request, SamplingParams

    Options = dict[str, Any]
    Replies = list[list[tuple[int, ...]]]

WINDOW = LayerGroup((0, 1, 3, 4), window=9)
KINDS = {
    "alternating": (WINDOW, LayerGroup((2, 5))),
    "sinks": (LayerGroup((1, 2, 3), window=7, sinks=3), LayerGroup((0, 4, 5))),
    "three": (LayerGroup((0, 3), window=5), LayerGroup((1, 4), window=12, sinks=2), LayerGroup((2, 5))),
    "window": (LayerGroup(window=10),),
}
SAMPLES, BEAMS = (SAMPLINGS["3-cool"], GREEDY, SAMPLINGS["2-both"]), (SMALL_BEAMS, GREEDY, FOUR_BEAMS)
OPTIONS = [
    {"preemption": "recompute"},
    {"preemption": "swap"},
    {"preemption": "swap", "prefix_caching": True},
    {"chunked": 16},
    {"chunked": 16, "prefix_caching": True, "preemption": "recompute"},
    {"chunked": 16, "admission": "prompt-first-chunk"},
    {"prefix_caching": True, "tiers": (64, 0)},
    {"prefix_caching": True, "tiers": (32, 256)},
]


def hybrid(
    kinds: str,
    num_blocks: int,
    block_size: int,
    *,
    chunked: int | None = None,
    prefix_caching: bool = False,
    tiers: tuple[int, int] = (0, 0),
) -> Hybrid:
    groups = equal_groups(KINDS[kinds])
    return Hybrid(
        PoolSpec(
            num_blocks * block_size, block_size, MAX_LEN, prefix_caching=prefix_caching,
            host_cache_slots=tiers[0], disk_cache_slots=tiers[1], layer_groups=groups,
            max_chunk_len=chunked,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama_folder(tmp_path_factory.mktemp("model"), num_layers=6)


@cache
def reference(folder: Path, kinds: str, *, has_int8: bool = False) -> list[list[tuple[int, ...]]]:
    """Without a pool: each token from all those before it, and a mask that says which of them it sees."""
    model = loaded_model(folder, KINDS[kinds]).model
    pairs = zip(prompts_of(folder), LENGTHS, strict=True)
    return [[greedy_reply(model, list(prompt), length, has_int8=has_int8)] for prompt, (_, length) in pairs]


@pytest.mark.parametrize("system", ["orca-max", "fastertransformer"])
@pytest.mark.parametrize("kinds", KINDS)
def test_contiguous_systems_see_the_windows(folder: Path, kinds: str, system: str) -> None:
    record = serve(folder, requests_of(folder, GREEDY), system, kinds=KINDS[kinds])
    assert outputs_of(record) == reference(folder, kinds)


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("block_size", [1, 4, 8, 32])
def test_tokens_are_those_of_the_definition(folder: Path, kinds: str, block_size: int) -> None:
    memory = hybrid(kinds, 4096 // block_size, block_size)
    record = serve(folder, requests_of(folder, GREEDY), memory=memory, kinds=KINDS[kinds])
    assert outputs_of(record) == reference(folder, kinds)


@pytest.mark.parametrize("kinds", ["alternating", "three", "window"])
@pytest.mark.parametrize("block_size", [1, 8])
def test_blocks_of_groups_hold_8_bits(folder: Path, kinds: str, block_size: int) -> None:
    memory = hybrid(kinds, 4096 // block_size, block_size)
    record = serve(
        folder, requests_of(folder, GREEDY), memory=memory, kinds=KINDS[kinds], kv_dtype=torch.int8
    )
    assert outputs_of(record) == reference(folder, kinds, has_int8=True)
    assert outputs_of(record) != reference(folder, kinds), "8 bits show"


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (options, kinds)
        for row, options in enumerate(OPTIONS)
        for column, kinds in enumerate(KINDS)
        if (row + row // 4 + column) % 2 == 0
    ],
    ids=str,
)
def test_on_a_tight_pool(folder: Path, kinds: str, options: Options) -> None:
    record, memory = serve_tightly(folder, kinds, options, GREEDY)
    assert outputs_of(record) == [reply for reply in reference(folder, kinds) for _ in range(3)]
    steps = record.steps
    assert steps["preemptions_recompute"].sum() + steps["preemptions_swap"].sum() >= 1
    if options.get("prefix_caching"):
        assert memory.num_prefix_hits > 0
    if "tiers" in options:
        assert memory.tiers is not None
        assert memory.tiers.counts.host_hits > 0


def three_times(requests: list[Request]) -> list[Request]:
    """Three in a row begin alike."""
    return [replace(requests[i // 3], request_id=i) for i in range(3 * len(requests))]


@cache
def contiguous(folder: Path, kinds: str, samplings: tuple[SamplingParams, ...]) -> Replies:
    """What a system that shares nothing and frees nothing emits."""
    requests = three_times(requests_of(folder, *samplings))
    return outputs_of(serve(folder, requests, "orca-max", kinds=KINDS[kinds]))


@pytest.mark.parametrize(
    ("options", "kinds", "samplings"),
    [
        (options, kinds, (SAMPLES, BEAMS)[(row + column) % 2])
        for row, options in enumerate(OPTIONS[:5])
        for column, kinds in enumerate(KINDS)
    ],
    ids=str,
)
def test_samples_and_beams_share_blocks(
    folder: Path, kinds: str, options: Options, samplings: tuple[SamplingParams, ...]
) -> None:
    record, _ = serve_tightly(folder, kinds, options, *samplings)
    assert outputs_of(record) == contiguous(folder, kinds, samplings)
    assert record.steps["cow_copies"].sum() > 0


def serve_tightly(
    folder: Path, kinds: str, options: Options, *samplings: SamplingParams
) -> tuple[RunRecord, Hybrid]:
    """A pool that holds the longest request and little more; every request comes three times."""
    own = {name: options[name] for name in ("chunked", "prefix_caching", "tiers") if name in options}
    scheduling = {name: value for name, value in options.items() if name not in ("prefix_caching", "tiers")}
    width = max(sampling.width for sampling in samplings)
    groups = equal_groups(KINDS[kinds])
    memory = hybrid(kinds, (6 + 5 * width) * len(groups), 4, **own)
    requests = three_times(requests_of(folder, *samplings))
    record = serve(folder, requests, memory=memory, kinds=KINDS[kinds], **scheduling)
    return record, memory
