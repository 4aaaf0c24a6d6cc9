"""The loop: every system serves everything, exactly, and equally often the same."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pagedbench.backend import SimulatedBackend
from pagedbench.config import RunConfig
from pagedbench.plan import Plan, make_plan
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, Status
from pagedbench.systems import SYSTEMS
from pagedbench.workload.arrivals import FixedArrivals, Stalled

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord

DECODINGS = ("n", "beams", "mixed")
GROWING = [name for name, system in SYSTEMS.items() if system.manager.preempts]
"""Systems that take memory as replies grow."""

LENGTHS = np.random.default_rng(5).integers(1, 300, size=(80, 2)).tolist()


def plan_of(system: str, **options: object) -> Plan:
    options = {"cost_model": "published", **options}  # linear: its times can be written down
    return make_plan(RunConfig(system=system, model="opt-13b", device="sim:a100-40gb", **options))


def requests(gap: float = 0.25) -> list[Request]:
    return [Request(i, gap * i, Prompt(p), SamplingParams(o)) for i, (p, o) in enumerate(LENGTHS)]


def decoded(decoding: str) -> list[Request]:
    """The same requests with three samples, three beams, or in turn with one, two beams, four samples."""
    kinds: dict[str, list[dict[str, int]]] = {
        "n": [{"n": 3}],
        "beams": [{"beam_width": 3}],
        "mixed": [{}, {"beam_width": 2}, {"n": 4}],
    }
    options = kinds[decoding]
    return [
        replace(item, sampling=replace(item.sampling, **options[i % len(options)]))
        for i, item in enumerate(requests())
    ]


def batch_size(system: str) -> int | None:
    """FasterTransformer's, such that four sequences of a request have room for the longest."""
    return 2 if system == "fastertransformer" else None


def run(system: str, items: list[Request] | None = None, **options: object) -> RunRecord:
    engine = SimulatedBackend().make_engine(plan_of(system, **options))
    return engine.run(FixedArrivals(items or requests()))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("kv_slots", [15_696, 1_600])
def test_every_request_gets_exactly_its_tokens(system: str, kv_slots: int) -> None:
    record = run(system, kv_slots=kv_slots, max_model_len=700)
    assert [item.status for item in record.requests] == [Status.FINISHED] * len(LENGTHS)
    for item, (_, output_len) in zip(record.requests, LENGTHS, strict=True):
        times = item.token_times(record.steps)
        assert item.num_tokens == len(times) == output_len
        assert np.all(np.diff(times) > 0)
        assert item.admit_time is not None
        assert item.request.arrival_time <= item.admit_time < times[0]
        assert times[-1] <= item.finish_time
        assert item.finish_time == times[-1] or system == "fastertransformer"
    assert (record.owned_at_start, record.owned_at_end, record.interrupted) == (0, 0, False)
    parts = ("kv_token_states", "kv_reserved", "kv_internal", "kv_external", "kv_free")
    assert np.all(sum(record.steps[part] for part in parts) == record.capacity)
    assert record.steps["decode_tokens"].sum() + len(LENGTHS) + record.steps[
        "preemptions_recompute"
    ].sum() == sum(output_len for _, output_len in LENGTHS)


def test_pinned_prefixes_are_no_leak() -> None:
    engine = SimulatedBackend().make_engine(plan_of("paged"), prefixes=[Prompt(100, seed=3)])
    record = engine.run(FixedArrivals(requests()))
    assert record.num_pinned == 96  # the full blocks of the prefix
    assert (record.owned_at_start, record.owned_at_end) == (0, 0)
    assert run("orca-max").num_pinned == 0


def test_a_small_pool_preempts_only_where_memory_grows() -> None:
    preemptions = {name: run(name, kv_slots=1_600, max_model_len=700).steps["preemptions_recompute"].sum()
                   for name in SYSTEMS}  # fmt: skip
    assert min(preemptions.pop(name) for name in GROWING) > 5
    assert set(preemptions.values()) == {0}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("decoding", DECODINGS)
def test_equal_runs_are_equal(system: str, decoding: str) -> None:
    first, second = (run(system, decoded(decoding)[:40], max_model_len=700) for _ in range(2))
    assert np.array_equal(first.steps.start, second.steps.start)
    assert all(np.array_equal(first.steps[name], second.steps[name]) for name in first.steps.columns)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("preemption", ["auto", "recompute"])
def test_every_sequence_of_a_group_gets_exactly_its_tokens(
    system: str, decoding: str, preemption: str
) -> None:
    items = decoded(decoding)[:40]
    options = {"preemption": preemption} if system in GROWING else {}
    record = run(system, items, kv_slots=6_400, max_model_len=700, batch_size=batch_size(system), **options)
    assert [item.status for item in record.requests] == [Status.FINISHED] * len(items)
    for item, request in zip(record.requests, items, strict=True):
        times = item.token_times(record.steps)
        assert item.num_tokens == len(times) == request.reply_len
        assert np.all(np.diff(times) > 0)
        assert len(item.outputs) == request.sampling.width
    assert (record.owned_at_start, record.owned_at_end, record.interrupted) == (0, 0, False)
    parts = ("kv_token_states", "kv_reserved", "kv_internal", "kv_external", "kv_free")
    assert np.all(sum(record.steps[part] for part in parts) == record.capacity)
    assert np.array_equal(record.steps["blocks_swapped_out"] > 0, record.steps["preemptions_swap"] > 0)


@pytest.mark.parametrize("decoding", ["n", "beams"])
def test_only_paged_memory_shares_and_what_grows_preempts_whole_groups(decoding: str) -> None:
    for system in SYSTEMS:
        steps = run(
            system, decoded(decoding), kv_slots=6_400, max_model_len=700, batch_size=batch_size(system)
        ).steps
        is_paged = system == "paged"
        assert steps["kv_shared"].any() == is_paged
        for column in ("preemptions_swap", "blocks_swapped_in"):
            assert steps[column].any() == (system in GROWING)
        assert not steps["preemptions_recompute"].any()
        assert steps["cow_copies"].any() == (is_paged or decoding == "beams")


def test_copies_take_time() -> None:
    sampling = SamplingParams(3, beam_width=4)
    items = [Request(0, 0.0, Prompt(101), sampling)]
    times = {system: np.diff(run(system, items).steps.end) for system in ("paged", "orca-oracle")}
    copies = {system: run(system, items).steps["cow_copies"] for system in times}
    step = (29.8 + 4 * 102 * 7.77e-4 + 4 * 0.0607) / 1e3
    slot = 2 * 819_200 / (0.75 * 1.555e12)  # read and written
    assert copies["paged"].tolist()[:2] == [0, 3]  # the prompt's last block, for all writers but one
    assert copies["orca-oracle"].tolist()[:2] == [0, 0]  # every beam begins with its own prompt
    assert times["paged"][0] == pytest.approx(step + 3 * 5 * slot)
    assert times["orca-oracle"][0] == pytest.approx(step)
    num_copied = copies["orca-oracle"][2]
    assert num_copied > 0
    assert times["orca-oracle"][1] == pytest.approx(step + 4 * 7.77e-7 + num_copied * 102 * slot)


def test_a_request_that_never_fits_fails_alone() -> None:
    items = [
        Request(0, 0.0, Prompt(900), SamplingParams(900)),
        Request(1, 1.0, Prompt(5), SamplingParams(5)),
    ]
    for system in SYSTEMS:
        record = run(system, items, kv_slots=1024, max_model_len=1024)
        assert [item.status for item in record.requests] == [Status.FAILED, Status.FINISHED]
        assert record.requests[0].num_tokens == 0
        assert record.requests[0].outputs == ()


def test_the_horizon_cuts_a_run_off() -> None:
    engine = SimulatedBackend().make_engine(plan_of("paged"), horizon=5.0)
    record = engine.run(FixedArrivals(requests()))
    assert record.interrupted
    assert record.steps.start[-1] < 5.0 <= record.steps.end[-1]


def test_stop_ends_the_run_and_keeps_what_finished() -> None:
    engine = SimulatedBackend().make_engine(plan_of("paged"))

    class StopsAfterTen(FixedArrivals):
        def completed(self, groups: object, now: float) -> None:
            if engine.recorder.num_finished >= 10:
                engine.stop()

    record = engine.run(StopsAfterTen(requests()))
    assert record.interrupted
    assert 10 <= len(record.requests) < len(LENGTHS)
    assert record.owned_at_end > 0


def test_a_scheduler_that_runs_nobody_is_reported() -> None:
    engine = SimulatedBackend().make_engine(plan_of("paged", max_num_seqs=1))
    engine.scheduler.num_sequences = 1  # a group that was lost: nobody else may run beside it
    with pytest.raises(Stalled, match="runs none of them"):
        engine.run(FixedArrivals(requests()))


def test_virtual_time_passes_as_the_cost_model_says() -> None:
    record = run("paged", [Request(0, 2.0, Prompt(100), SamplingParams(3))])
    first = (29.8 + 100 * 0.1405) / 1e3
    second = first + (29.8 + 101 * 7.77e-4 + 0.0607) / 1e3
    third = second + (29.8 + 102 * 7.77e-4 + 0.0607) / 1e3
    assert record.requests[0].token_times(record.steps) == pytest.approx([2 + first, 2 + second, 2 + third])
    assert math.isclose(record.max_lateness, 0.0)


def test_padding_and_ended_rows_take_time() -> None:
    items = [
        Request(0, 0.0, Prompt(100), SamplingParams(3)),
        Request(1, 0.0, Prompt(10), SamplingParams(2)),
    ]
    record = run("fastertransformer", items)
    first = (29.8 + 200 * 0.1405) / 1e3
    second = first + (29.8 + 2 * 101 * 7.77e-4 + 2 * 0.0607) / 1e3
    third = second + (29.8 + 2 * 102 * 7.77e-4 + 2 * 0.0607) / 1e3
    assert record.steps.end == pytest.approx([first, second, third])
    assert [item.finish_time for item in record.requests] == pytest.approx([third, third])
    assert record.requests[1].token_times(record.steps) == pytest.approx([first, second])
