"""A machine is measured at one memory bandwidth."""

from __future__ import annotations

import pytest

from models.folders import make_opt_folder
from pagedbench.backend import load_backend
from pagedbench.config import ConfigError, RunConfig
from pagedbench.plan import make_plan
from pagedbench.tools.calibrate.machine_profile import LOOP_REQUESTS, Bandwidth, cases_for, measure
from runs.meters import FAST, SLOW, Script


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    model = make_opt_folder(tmp_path_factory.mktemp("calibrated") / "opt")
    return make_plan(RunConfig(model=str(model), device="cpu", dtype="float32", kv_slots=2048, warmup=0))


def test_every_batch_is_timed(plan, one_thread):
    said = []
    measured = measure(plan, load_backend(plan), 2, Script([None]), said.append)
    assert (len(measured.seen), len(measured.unseen)) == tuple(
        sum(case.is_held_out == wanted for case in cases_for(plan, 2)) for wanted in (False, True)
    )
    assert len(said) == 2 * (len(measured.seen) + len(measured.unseen))
    assert all(item.seconds > 0 for item in measured.seen)
    assert {item.sequences for item in measured.loop} == set(range(1, LOOP_REQUESTS + 1))
    assert all(item.seconds > 0 for item in measured.loop)
    assert measured.spread > 0
    assert measured.bandwidth == Bandwidth(None, None, None, 1.0)


def test_batches_that_missed_the_usual_bandwidth_are_visited_again(plan, one_thread):
    """The first ten visits have another bandwidth, and one more has the change in its midst."""
    said = []
    meter = Script([*[SLOW] * 21, FAST])
    found = measure(plan, load_backend(plan), 1, meter, said.append).bandwidth
    num_cases = len(cases_for(plan, 1))
    assert found == Bandwidth(FAST, SLOW, FAST, (num_cases - 11) / num_cases)
    again = [text for text in said if text.endswith("again")]
    assert len(again) == 11
    assert again[0] == "memory bandwidth varied: batch 1 of 11 again"
    assert meter.num_read == 2 * (num_cases + 11)


def test_a_bandwidth_that_is_gone_does_not_lengthen_the_measurement(plan, one_thread):
    num_cases = len(cases_for(plan, 1))
    meter = Script([*[FAST] * (2 * num_cases - 20), SLOW])
    measured = measure(plan, load_backend(plan), 1, meter, lambda text: None)
    assert meter.num_read == 2 * (num_cases + 10)  # one round more, of those that missed it
    assert len(measured.seen) + len(measured.unseen) == num_cases


def test_a_pool_that_holds_too_little_is_refused(plan):
    small = make_plan(RunConfig(model=plan.config.model, device="cpu", dtype="float32", kv_slots=64))
    with pytest.raises(ConfigError, match="enlarge --kv-slots"):
        cases_for(small, 1)
