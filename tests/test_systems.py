"""The table; and that every system emits the same tokens, those of Hugging Face."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from models.folders import hugging_face_greedy
from pagedbench.backend import Backend, load_backend
from pagedbench.clock import VirtualClock
from pagedbench.config import ConfigError, RunConfig
from pagedbench.engine import Engine
from pagedbench.plan import Plan, make_plan
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.simulation.cost_model import LINEAR_COST_MODELS
from pagedbench.simulation.executor import Simulated
from pagedbench.systems import ALIASES, SYSTEMS, build_memory, build_scheduler, canonical_name
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord

LENGTHS = [(5, 20), (17, 9), (1, 33), (30, 2), (16, 17), (8, 40), (33, 1), (12, 12), (3, 25), (15, 16)]
"""Prompts and replies around the edges of blocks."""

ROOMY, TIGHT = 2048, 96
STEP_TIMES = LINEAR_COST_MODELS["a100-40gb", "opt-13b", 1]
MODELS = ("opt", "llama", "stories")


def plan_of(
    folder: Path, system: str, kv_slots: int, block_size: int = 16, device: str = "cpu", **options: object
) -> Plan:
    config = RunConfig(
        system=system, model=str(folder), device=device, dtype="float32", kv_slots=kv_slots,
        block_size=block_size, max_model_len=64, warmup=0, **options,
    )  # fmt: skip
    return make_plan(config)


def requests_of(vocab_size: int, gap: float = 0.0) -> list[Request]:
    return [
        Request(
            i,
            gap * i,
            Prompt(p, token_ids=tuple(Prompt(p, seed=i).ids(vocab_size).tolist())),
            SamplingParams(o),
        )
        for i, (p, o) in enumerate(LENGTHS)
    ]


_backend = cache(load_backend)
_reference = cache(
    lambda folder, prompts: [
        tuple(ids) for ids in hugging_face_greedy(folder, prompts, [o for _, o in LENGTHS])
    ]
)


def backend_for(plan: Plan) -> Backend:
    """Weights and pool are loaded once for every model and pool."""
    return _backend(plan_of(Path(plan.config.model), "paged", plan.kv_slots, plan.config.block_size))


def tokens_of(record: RunRecord) -> list[tuple[int, ...]]:
    return [item.outputs[0].token_ids for item in record.requests]


@pytest.mark.parametrize("folder", MODELS, indirect=True)
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(
    ("kv_slots", "block_size"), [(ROOMY, 1), (ROOMY, 8), (ROOMY, 32), (TIGHT, 16), (TIGHT, 8)]
)
def test_every_system_emits_the_tokens_of_hugging_face(
    folder: Path, system: str, kv_slots: int, block_size: int
) -> None:
    plan = plan_of(folder, system, kv_slots, block_size)
    requests = requests_of(plan.shape.vocab_size)
    record = backend_for(plan).make_engine(plan).run(FixedArrivals(requests))
    expected = _reference(folder, tuple(request.prompt.token_ids for request in requests))
    assert tokens_of(record) == expected
    if SYSTEMS[system].manager.preempts and kv_slots == TIGHT:
        assert record.steps["preemptions_recompute"].sum() >= 5
    assert record.owned_at_end == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("folder", MODELS, indirect=True)
@pytest.mark.parametrize("system", [name for name in SYSTEMS if not SYSTEMS[name].manager.commits_pages])
def test_a_gpu_emits_the_same_tokens(folder: Path, system: str) -> None:
    plan = plan_of(folder, system, TIGHT, device="cuda")
    requests = requests_of(plan.shape.vocab_size)
    record = load_backend(plan).make_engine(plan).run(FixedArrivals(requests))
    assert tokens_of(record) == _reference(folder, tuple(request.prompt.token_ids for request in requests))


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
@pytest.mark.parametrize("prefill", ["mixed", "separate"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_schedule_with_the_model_is_the_schedule_simulated(
    folder: Path, system: str, prefill: str
) -> None:
    options = {} if system == "fastertransformer" else {"prefill": prefill}
    plan = plan_of(folder, system, TIGHT, **options)
    requests = requests_of(plan.shape.vocab_size, gap=0.1)
    real = backend_for(plan).make_engine(plan)
    real.clock = VirtualClock(STEP_TIMES.step_time)
    memory = build_memory(plan.config, plan.kv_slots, pages=plan.pages)
    simulated = Engine(
        build_scheduler(plan.config, memory), memory, Simulated(), VirtualClock(STEP_TIMES.step_time)
    )
    first, second = (engine.run(FixedArrivals(requests)) for engine in (real, simulated))
    assert first.steps.start.tolist() == second.steps.start.tolist()
    assert {name: column.tolist() for name, column in first.steps.columns.items()} == {
        name: column.tolist() for name, column in second.steps.columns.items()
    }
    assert tokens_of(first) == _reference(folder, tuple(request.prompt.token_ids for request in requests))


def test_names_and_aliases() -> None:
    assert [canonical_name(name) for name in (*SYSTEMS, *ALIASES)] == [
        *SYSTEMS,
        "paged",
        "fastertransformer",
    ]
    with pytest.raises(ConfigError, match="did you mean orca-max"):
        canonical_name("orca-mx")


def test_the_batch_of_fastertransformer_keeps_to_the_sequence_limit() -> None:
    options = {"system": "fastertransformer", "model": "opt-13b", "device": "sim:a100-40gb"}
    assert make_plan(RunConfig(**options)).config.batch_size == 7
    assert make_plan(RunConfig(max_num_seqs=3, **options)).config.batch_size == 3
    with pytest.raises(ConfigError, match="above the 3 sequences of --max-num-seqs"):
        make_plan(RunConfig(max_num_seqs=3, batch_size=4, **options))


@pytest.mark.parametrize("folder", ["opt"], indirect=True)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_pool_too_small_for_the_warm_up_skips_it(folder: Path, system: str) -> None:
    plan = plan_of(folder, system, kv_slots=48, block_size=16)
    plan = replace(plan, config=replace(plan.config, warmup=2))
    speed = backend_for(plan).warm_up(plan)
    assert (speed is None) == system.startswith("orca")  # which rounds 40 up to 64


def test_classes_of_ones_own() -> None:
    options = {"model": "opt-13b", "device": "sim:a100-40gb"}
    plan = make_plan(RunConfig(memory="pagedbench.memory.contiguous:MaxReservation", **options))
    assert type(build_memory(plan.config, 1600)).__name__ == "MaxReservation"
    for bad in (
        "nowhere:Class",
        "pagedbench.memory.paged:Nothing",
        "pagedbench.request:Request",
        "paged",
        ":",
    ):
        with pytest.raises(ConfigError, match="--memory"):
            make_plan(RunConfig(memory=bad, **options))
    with pytest.raises(ConfigError, match="is abstract"):
        make_plan(RunConfig(memory="pagedbench.memory.contiguous:Contiguous", **options))
    with pytest.raises(ConfigError, match="needs equal extents"):
        make_plan(RunConfig(batching="pagedbench.scheduling.request_level:RequestLevel", **options))
