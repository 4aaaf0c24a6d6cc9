"""One trace really and in virtual time; again, if memory had another pace than the profile."""

from __future__ import annotations

import time

import pytest

from models.folders import make_opt_folder
from pagedbench.backend import load_backend
from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.runs.memory_pace import NoMeter
from pagedbench.tools.calibrate.replay import LOADS, METRICS, NUM_TRIES, replays
from runs.meters import FAST, SLOW, Script
from simulation.test_profile import PROFILE

NUM_REQUESTS = 2


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    model = make_opt_folder(tmp_path_factory.mktemp("replayed") / "opt")
    return make_plan(RunConfig(model=str(model), device="cpu", dtype="float32", kv_slots=2048, warmup=0))


@pytest.fixture(scope="module")
def backend(plan):
    return load_backend(plan)


def replayed(plan, backend, meter, pace, num_requests=NUM_REQUESTS):
    said = []
    found = list(replays(plan, backend, PROFILE, num_requests, meter, pace, said.append))
    assert len(said) == len(found)
    return found


def test_nothing_without_requests(plan, backend):
    assert replayed(plan, backend, NoMeter(), None, num_requests=0) == []


def test_three_loads_each_beside_its_simulation(plan, backend, one_thread):
    found = replayed(plan, backend, NoMeter(), None)
    assert [item.load for item in found] == list(LOADS)
    assert found[1].rate == pytest.approx(2 * found[0].rate)
    assert found[2].rate == pytest.approx(4 * found[0].rate)
    for item in found:
        assert list(item.values) == list(METRICS)
        assert all(measured > 0 and simulated > 0 for measured, simulated in item.values.values())
        assert 0 <= item.kv_points <= 100
        assert item.at_pace == 1


def test_a_run_at_another_pace_is_run_again(plan, backend, one_thread, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr("pagedbench.tools.calibrate.replay.PATIENCE_S", 0.0)
    monkeypatch.setattr("pagedbench.tools.calibrate.replay.READ_EVERY_S", 1e9)  # at a run's beginning alone
    runs = []  # with the warm-up's
    make_engine = backend.make_engine
    monkeypatch.setattr(backend, "make_engine", lambda plan: runs.append(plan) or make_engine(plan))
    first = (SLOW, SLOW, FAST)  # not waited for; the run begins slow; the second begins fast
    found = replayed(plan, backend, Script([*first, FAST]), FAST)
    assert [item.at_pace for item in found] == [1, 1, 1]
    assert len(runs) == 1 + 1 + len(LOADS)
    runs.clear()
    found = replayed(plan, backend, Script([SLOW]), FAST)
    assert [item.at_pace for item in found] == [0, 0, 0]
    assert len(runs) == 1 + NUM_TRIES * len(LOADS)
