"""Tiers change no token, and what is simulated of them is what happens."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagedbench.memory.evictions import EVICTIONS
from pagedbench.memory.paged import Paged
from pagedbench.prompt import Prompt
from pagedbench.request import Request
from pagedbench.scheduling.admission import ADMISSIONS
from pagedbench.scheduling.victims import VICTIMS
from pagedbench.simulation.executor import Simulated
from pagedbench.workload.arrivals import FixedArrivals
from serving import (
    BEAMS,
    GREEDY,
    MAX_LEN,
    ROOMY,
    SAMPLINGS,
    engine_of,
    loaded_model,
    outputs_of,
    serve,
)  # fmt: skip

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.metrics.records import RunRecord

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = (GREEDY, SAMPLINGS["3-cool"], GREEDY, BEAMS)
NUM_TEXTS, NUM_REQUESTS = 5, 20


@cache
def requests_of(folder: Path) -> list[Request]:
    """Prompts that begin with a text in turn, so that each text is evicted before it is needed again."""
    vocab_size = loaded_model(folder).shape.vocab_size
    texts = [tuple(Prompt(36, seed=90 + i).ids(vocab_size).tolist()) for i in range(NUM_TEXTS)]
    requests = []
    for i in range(NUM_REQUESTS):
        own = tuple(Prompt(1 + i % 7, seed=i).ids(vocab_size).tolist())
        ids = texts[i % NUM_TEXTS][: 36 - 4 * (i % 3)] + own
        sampling = replace(KINDS[i % len(KINDS)], max_tokens=4 + i % 9)
        requests.append(Request(i, 0.04 * i, Prompt(len(ids), token_ids=ids), sampling))
    return requests


@cache
def expected(folder: Path) -> list[list[tuple[int, ...]]]:
    return outputs_of(serve(folder, requests_of(folder), "orca-max", ROOMY))


def memory_of(
    num_slots: int, block_size: int, host_blocks: int, disk_blocks: int, eviction: str = "lru"
) -> Paged:
    return Paged(
        num_slots,
        block_size,
        MAX_LEN,
        prefix_caching=True,
        eviction=EVICTIONS[eviction](),
        host_cache_slots=host_blocks * block_size,
        disk_cache_slots=disk_blocks * block_size,
    )


def counts_of(record: RunRecord) -> dict[str, int]:
    assert record.tier_counts is not None
    return asdict(record.tier_counts)


@pytest.mark.parametrize("folder", ["opt", "llama"], indirect=True)
@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_no_token_changes_on_pools_so_small_that_every_tier_overflows(
    folder: Path, preemption: str
) -> None:
    memory = memory_of(128, 4, host_blocks=10, disk_blocks=24)
    record = serve(folder, requests_of(folder), preemption=preemption, memory=memory)
    assert outputs_of(record) == expected(folder)
    counts = counts_of(record)
    assert min(counts[name] for name in ("host_hits", "disk_hits", "host_to_disk", "disk_to_host")) >= 16
    assert record.steps[f"preemptions_{preemption}"].sum() >= 3
    assert record.steps["prefix_hits"].sum() >= counts["host_hits"] + counts["disk_hits"]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    block_size=st.sampled_from([1, 3, 4, 8]),
    host=st.integers(0, 40),
    disk=st.integers(0, 120),
    num_slots=st.integers(120, 240),
    preemption=st.sampled_from(["recompute", "swap", "auto"]),
    chunked=st.sampled_from([None, 16, 40]),
    policies=st.tuples(*map(st.sampled_from, ([*VICTIMS], [*EVICTIONS], [*ADMISSIONS]))),
)
@pytest.mark.parametrize("folder", ["llama"], indirect=True)
def test_no_token_changes_in_any_combination(
    folder: Path,
    block_size: int,
    host: int,
    disk: int,
    num_slots: int,
    preemption: str,
    chunked: int | None,
    policies: tuple[str, str, str],
) -> None:
    """Block sizes, tiers, prefills, preemption modes, victims, evictions and admissions."""
    victim, eviction, admission = policies
    memory = memory_of(num_slots, block_size, host // block_size, disk // block_size, eviction)
    record = serve(
        folder,
        requests_of(folder),
        preemption=preemption,
        memory=memory,
        chunked=chunked,
        victim=victim,
        admission=admission,
    )
    assert outputs_of(record) == expected(folder)


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
def test_the_schedule_with_the_model_is_the_schedule_simulated(folder: Path) -> None:
    requests = [
        replace(request, sampling=replace(GREEDY, max_tokens=request.sampling.max_tokens))
        for request in requests_of(folder)
    ]
    memories = [memory_of(128, 4, host_blocks=20, disk_blocks=0) for _ in range(2)]
    real = serve(folder, requests, memory=memories[0])
    simulated = engine_of("paged", memories[1], Simulated(), "auto").run(FixedArrivals(requests))
    assert real.steps.start.tolist() == simulated.steps.start.tolist()
    for name, column in real.steps.columns.items():
        assert column.tolist() == simulated.steps[name].tolist(), name
    assert counts_of(real) == counts_of(simulated)
    assert counts_of(real)["host_hits"] > 100
