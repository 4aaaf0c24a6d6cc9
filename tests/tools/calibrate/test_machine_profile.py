"""Every batch is timed in every round, and the engine's loop beside them."""

from __future__ import annotations

import pytest

from models.folders import make_opt_folder
from pagedbench.backend import load_backend
from pagedbench.config import ConfigError, RunConfig
from pagedbench.plan import make_plan
from pagedbench.tools.calibrate.machine_profile import LOOP_REQUESTS, cases_for, measure


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    model = make_opt_folder(tmp_path_factory.mktemp("calibrated") / "opt")
    return make_plan(RunConfig(model=str(model), device="cpu", dtype="float32", kv_slots=2048, warmup=0))


def test_every_batch_is_timed(plan, one_thread):
    said = []
    measured = measure(plan, load_backend(plan), 2, said.append)
    assert (len(measured.fitted), len(measured.held_out)) == tuple(
        sum(case.is_held_out == wanted for case in cases_for(plan, 2)) for wanted in (False, True)
    )
    assert len(said) == 2 * (len(measured.fitted) + len(measured.held_out))
    assert all(item.seconds > 0 for item in measured.fitted)
    assert {item.sequences for item in measured.loop} == set(range(1, LOOP_REQUESTS + 1))
    assert all(item.seconds > 0 for item in measured.loop)
    assert measured.spread > 0


def test_a_pool_that_holds_too_little_is_refused(plan):
    small = make_plan(RunConfig(model=plan.config.model, device="cpu", dtype="float32", kv_slots=64))
    with pytest.raises(ConfigError, match="enlarge --kv-slots"):
        cases_for(small, 1)
