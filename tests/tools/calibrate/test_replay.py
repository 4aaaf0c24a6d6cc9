"""One trace on the real device and in virtual time, at several loads."""

from __future__ import annotations

import pytest

from models.folders import make_opt_folder
from pagedbench.backend import load_backend
from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.tools.calibrate.replay import LOADS, METRICS, replays
from simulation.test_profile import PROFILE

NUM_REQUESTS = 2


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    model = make_opt_folder(tmp_path_factory.mktemp("replayed") / "opt")
    return make_plan(RunConfig(model=str(model), device="cpu", dtype="float32", kv_slots=2048, warmup=0))


@pytest.fixture(scope="module")
def backend(plan):
    return load_backend(plan)


def replayed(plan, backend, num_requests=NUM_REQUESTS):
    said = []
    found = list(replays(plan, backend, PROFILE, num_requests, said.append))
    assert len(said) == len(found)
    return found


def test_nothing_without_requests(plan, backend):
    assert replayed(plan, backend, num_requests=0) == []


def test_three_loads_each_beside_its_simulation(plan, backend, one_thread):
    found = replayed(plan, backend)
    assert [item.load for item in found] == list(LOADS)
    assert found[1].rate == pytest.approx(2 * found[0].rate)
    assert found[2].rate == pytest.approx(4 * found[0].rate)
    for item in found:
        assert list(item.values) == list(METRICS)
        assert all(measured > 0 and simulated > 0 for measured, simulated in item.values.values())
        assert 0 <= item.kv_points <= 100
