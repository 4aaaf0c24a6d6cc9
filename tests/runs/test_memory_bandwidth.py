"""Memory bandwidth: what is read, and which readings are the same."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from pagedbench.runs.memory_bandwidth import (
    NOISE,
    is_same,
    read_bandwidth,
)
from runs.meters import FAST, SLOW


def test_memory_is_read() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("pagedbench.kernels._cpu")
    reading = read_bandwidth("cpu")
    assert reading is not None
    assert 1e8 < reading < 1e13


def test_nothing_is_read_beside_the_cpu_or_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_bandwidth("cuda") is None
    assert read_bandwidth("sim:a100-40gb") is None

    def missing(name: str) -> Any:
        raise ImportError(name)

    pytest.importorskip("torch")
    monkeypatch.setattr(importlib, "import_module", missing)
    assert read_bandwidth("cpu") is None


def test_noise_is_the_same_and_another_placement_is_not() -> None:
    assert is_same(SLOW, 1.1 * SLOW)
    assert is_same(NOISE * SLOW, SLOW)
    assert not is_same(SLOW, FAST)
    assert not is_same(FAST, SLOW)
    assert is_same(None, FAST)
    assert is_same(SLOW, None)
