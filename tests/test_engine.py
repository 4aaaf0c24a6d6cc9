"""The loop: every system serves everything, exactly, and equally often the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pagedbench.backend import SimulatedBackend
from pagedbench.config import RunConfig
from pagedbench.engine import SchedulerStalled
from pagedbench.plan import Plan, make_plan
from pagedbench.request import Prompt, Request, SamplingParams, Status
from pagedbench.systems import SYSTEMS
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord

LENGTHS = np.random.default_rng(5).integers(1, 300, size=(80, 2)).tolist()


def plan_of(system: str, **options: object) -> Plan:
    return make_plan(RunConfig(system=system, model="opt-13b", device="sim:a100-40gb", **options))


def requests(gap: float = 0.25) -> list[Request]:
    return [Request(i, gap * i, Prompt(p), SamplingParams(o)) for i, (p, o) in enumerate(LENGTHS)]


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


def test_a_small_pool_preempts_only_where_memory_is_paged() -> None:
    preemptions = {name: run(name, kv_slots=1_600, max_model_len=700).steps["preemptions_recompute"].sum()
                   for name in SYSTEMS}  # fmt: skip
    assert preemptions.pop("paged") > 5
    assert set(preemptions.values()) == {0}


@pytest.mark.parametrize("system", SYSTEMS)
def test_equal_runs_are_equal(system: str) -> None:
    first, second = run(system), run(system)
    assert np.array_equal(first.steps.start, second.steps.start)
    assert all(np.array_equal(first.steps[name], second.steps[name]) for name in first.steps.columns)


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
    with pytest.raises(SchedulerStalled, match="runs none of them"):
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
