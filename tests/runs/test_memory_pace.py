"""The meter of this machine's memory, and waiting for a pace."""

from __future__ import annotations

import importlib
import time
from typing import Any

import pytest

from pagedbench.runs.memory_pace import CpuMeter, NoMeter, pace_meter, read_pace, wait_for
from runs.meters import FAST, SLOW, Script


def test_memory_is_read() -> None:
    torch = pytest.importorskip("torch")
    native = pytest.importorskip("pagedbench.kernels._cpu")
    meter = CpuMeter(native, 8 * 2**20, torch.get_num_threads())
    assert meter.read() > 0
    assert isinstance(pace_meter("cpu"), CpuMeter)


def test_there_is_none_beside_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(pace_meter("cuda"), NoMeter)
    assert read_pace("sim:a100-40gb") is None

    def missing(name: str) -> Any:
        raise ImportError(name)

    pytest.importorskip("torch")
    monkeypatch.setattr(importlib, "import_module", missing)
    assert read_pace("cpu") is None


def test_waiting_ends_with_the_pace_or_with_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    meter = Script([SLOW, SLOW, FAST])
    wait_for(meter, FAST, patience=60.0)
    assert (meter.num_read, len(naps)) == (3, 2)
    never = Script([SLOW])
    assert wait_for(never, FAST, patience=0.0) >= 0.0
    assert never.num_read == 1
    assert len(naps) == 2
