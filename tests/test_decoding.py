"""Beams equal Hugging Face's, and samples each other's, in every system and under every preemption."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pagedbench.memory.paged import Paged
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.simulation.executor import Simulated
from pagedbench.systems import SYSTEMS
from pagedbench.workload.arrivals import FixedArrivals
from serving import (
    BEAMS,
    BLOCK_SIZE,
    GREEDY,
    MAX_LEN,
    MODELS,
    ROOMY,
    SAMPLINGS,
    SMALL_BEAMS,
    WIDTHS,
    engine_of,
    memory_of,
    outputs_of,
    prompts_of,
    reference_beams,
    reference_greedy,
    requests_of,
    serve,
)  # fmt: skip

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.metrics.records import RunRecord

pytestmark = pytest.mark.usefixtures("one_thread")

EVERY_FOLDER = [(folder, width, "paged") for folder in MODELS for width in WIDTHS]
EVERY_SYSTEM = [
    (MODELS[i % len(MODELS)], WIDTHS[(i + j) % len(WIDTHS)], system)
    for i, system in enumerate(SYSTEMS)
    for j in range(2)
    if system != "paged"
]
"""Models, widths of beams, and systems, each of which has two widths and another model than the next."""

GROWING = [name for name, system in SYSTEMS.items() if system.manager.preempts]
BASELINES = [name for name in SYSTEMS if name != "paged"]


def assert_beams(record: RunRecord, expected: list[list[tuple[tuple[int, ...], float]]]) -> None:
    for item, beams in zip(record.requests, expected, strict=True):
        assert [output.token_ids for output in item.outputs] == [ids for ids, _ in beams]
        scores = [output.cumulative_logprob for output in item.outputs]
        assert scores == pytest.approx([score for _, score in beams], abs=1e-4, rel=0)


@pytest.mark.parametrize(("folder", "width", "system"), EVERY_FOLDER + EVERY_SYSTEM, indirect=["folder"])
def test_beams_are_those_of_hugging_face(folder: Path, system: str, width: int) -> None:
    record = serve(folder, requests_of(folder, SamplingParams(1, beam_width=width)), system)
    assert_beams(record, reference_beams(folder, width))


@pytest.mark.parametrize(("folder", "width"), [*zip(MODELS, WIDTHS, strict=True)], indirect=["folder"])
@pytest.mark.parametrize("preemption", ["auto", "swap", "recompute"])
@pytest.mark.parametrize("system", GROWING)
def test_beams_survive_preemption(folder: Path, system: str, width: int, preemption: str) -> None:
    requests = requests_of(folder, SamplingParams(1, beam_width=width))
    kv_slots = 64 + 40 * width if system == "paged" else 80 * width
    record = serve(folder, requests, system, kv_slots, preemption)
    assert_beams(record, reference_beams(folder, width))
    used, unused = "preemptions_swap", "preemptions_recompute"
    if preemption == "recompute":
        used, unused = unused, used
    assert record.steps[used].sum() >= 2
    assert record.steps[unused].sum() == 0


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
def test_what_the_host_has_no_room_for_is_recomputed(folder: Path) -> None:
    requests = requests_of(folder, SamplingParams(1, beam_width=4))
    memory = Paged(200, BLOCK_SIZE, MAX_LEN, host_slots=64)
    record = serve(folder, requests, memory=memory)
    assert_beams(record, reference_beams(folder, 4))
    assert record.steps["preemptions_swap"].sum() > 0
    assert record.steps["preemptions_recompute"].sum() > 0


@pytest.mark.parametrize(
    ("folder", "sampling"),
    [(MODELS[i % len(MODELS)], sampling) for i, sampling in enumerate(SAMPLINGS.values())],
    ids=list(SAMPLINGS),
    indirect=["folder"],
)
def test_samples_are_the_same_everywhere(folder: Path, sampling: SamplingParams) -> None:
    requests = requests_of(folder, sampling)
    first = serve(folder, requests)
    expected = outputs_of(first)
    long_replies = [output for outputs in expected for output in outputs if len(output) >= 9]
    assert len(set(long_replies)) == len(long_replies), "samples of one prompt are alike"
    for system in BASELINES:
        assert outputs_of(serve(folder, requests, system)) == expected
    pools = {"paged": 56 + 40 * sampling.n, "vattention": 80 * sampling.n}
    for system, preemption in itertools.product(pools, ("swap", "recompute")):
        record = serve(folder, requests, system, pools[system], preemption)
        assert outputs_of(record) == expected
        assert record.steps[f"preemptions_{preemption}"].sum() >= 2
    scattered = serve(folder, requests_of(folder, sampling, gap=0.2))
    assert outputs_of(scattered) == expected
    for mine, theirs in zip(first.requests, scattered.requests, strict=True):
        scores = [output.cumulative_logprob for output in mine.outputs]
        assert [output.cumulative_logprob for output in theirs.outputs] == pytest.approx(scores, abs=1e-3)


@pytest.mark.parametrize("folder", ["opt"], indirect=True)
def test_seed_and_request_change_the_samples(folder: Path) -> None:
    sampling = SAMPLINGS["2"]
    (ids,) = prompts_of(folder)[:1]
    requests = [
        Request(i, 0.0, Prompt(len(ids), token_ids=ids), replace(sampling, max_tokens=12, seed=seed))
        for i, seed in enumerate((1, 1, 2))
    ]
    outputs = [output for outputs in outputs_of(serve(folder, requests)) for output in outputs]
    assert len(set(outputs)) == 6


@pytest.mark.parametrize(
    ("folder", "system", "kv_slots", "preemption"),
    [
        *((folder, "paged", 208, how) for folder in MODELS for how in ("auto", "recompute")),
        *(("llama", system, ROOMY, "auto") for system in SYSTEMS),
        *(("llama", "vattention", 260, how) for how in ("auto", "recompute")),
    ],
    indirect=["folder"],
)
def test_methods_share_a_batch(folder: Path, system: str, kv_slots: int, preemption: str) -> None:
    kinds = (GREEDY, BEAMS, SAMPLINGS["3-cool"], SMALL_BEAMS, SAMPLINGS["4-top-p"])
    requests = requests_of(folder, *kinds)
    record = serve(folder, requests, system, kv_slots, preemption)
    outputs = outputs_of(record)
    samples = {i: outputs_of(serve(folder, requests_of(folder, kinds[i]))) for i in (2, 4)}
    for i, found in enumerate(outputs):
        kind = kinds[i % len(kinds)]
        if kind.beam_width is not None:
            assert found == [ids for ids, _ in reference_beams(folder, kind.beam_width)[i]]
        elif kind.temperature == 0:
            assert found == [tuple(reference_greedy(folder)[i])]
        else:
            assert found == samples[i % len(kinds)][i]
    if kv_slots != ROOMY:
        used = "preemptions_swap" if preemption == "auto" else "preemptions_recompute"
        assert record.steps[used].any()


@pytest.mark.parametrize("folder", ["opt"], indirect=True)
@pytest.mark.parametrize("system", SYSTEMS)
def test_parallel_samples_without_temperature_are_all_the_greedy_one(folder: Path, system: str) -> None:
    outputs = outputs_of(serve(folder, requests_of(folder, SamplingParams(1, n=3)), system))
    assert outputs == [[tuple(reply)] * 3 for reply in reference_greedy(folder)]


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
@pytest.mark.parametrize("preemption", ["auto", "recompute"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_schedule_of_groups_is_the_schedule_simulated(
    folder: Path, system: str, preemption: str
) -> None:
    kinds = (SAMPLINGS["3-cool"], GREEDY, SAMPLINGS["2"])
    requests = requests_of(folder, *kinds, gap=0.05)
    kv_slots = {"paged": 144, "vattention": 176}.get(system, ROOMY // 2)
    real = serve(folder, requests, system, kv_slots, preemption)
    memory = memory_of(system, kv_slots)
    simulated = engine_of(system, memory, Simulated(), preemption).run(FixedArrivals(requests))
    assert real.steps.start.tolist() == simulated.steps.start.tolist()
    assert {name: column.tolist() for name, column in real.steps.columns.items()} == {
        name: column.tolist() for name, column in simulated.steps.columns.items()
    }
    if system in GROWING:
        assert real.steps["preemptions_swap" if preemption == "auto" else "preemptions_recompute"].any()
