"""The kernels of this machine are measured over block sizes."""

from __future__ import annotations

import pytest

from models.folders import make_opt_folder
from pagedbench.backend import ModelBackend, load_backend
from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.tools.calibrate.block_size_times import SIZES, measure_block_sizes


@pytest.fixture(autouse=True)
def _small_footprint(monkeypatch):
    """To fill more memory than the caches hold takes seconds."""
    monkeypatch.setattr("pagedbench.tools.calibrate.block_size_times.rotation_bytes", lambda device: 2**20)


def test_every_size_and_the_own_one(tmp_path, one_thread):
    model = make_opt_folder(tmp_path / "opt")
    config = RunConfig(model=str(model), device="cpu", dtype="float32", kv_slots=2400, block_size=24)
    plan = make_plan(config)
    backend = load_backend(plan)
    assert isinstance(backend, ModelBackend)
    times = measure_block_sizes(plan, backend)
    assert set(times.factors) == {*SIZES, 24}
    assert all(factor > 0 for factor in times.factors.values())
