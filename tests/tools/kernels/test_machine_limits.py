"""What binds, by the measured limits; the native probes; and what happens without them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

from pagedbench.runs.memory_bandwidth import ASSUMED_CACHE_BYTES, last_level_cache_bytes
from pagedbench.tools.kernels.cases import Work
from pagedbench.tools.kernels.machine_limits import (
    CpuProbe,
    MachineLimits,
    NoProbe,
    limit_probe,
)

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = MachineLimits(read_bandwidth=50.0, float32=100.0, bfloat16=400.0)


@pytest.mark.parametrize(
    ("work", "dtype", "expected"),
    [
        (Work(100, 100), "float32", (2.0, "memory")),
        (Work(100, 300), "float32", (3.0, "arithmetic")),
        (Work(100, 300), "bfloat16", (2.0, "memory")),
        (Work(0, 300), "float16", (3.0, "arithmetic")),
    ],
)
def test_the_later_of_the_two_binds(work: Work, dtype: str, expected: tuple[float, str]) -> None:
    assert LIMITS.least_time(work, dtype) == expected


def test_what_was_not_measured_is_not_invented() -> None:
    assert NoProbe().measure().least_time(Work(100, 100), "float32") is None
    assert MachineLimits(read_bandwidth=50.0).least_time(Work(100, 1), "float32") is None
    assert MachineLimits(read_bandwidth=50.0).least_time(Work(100), "float32") == (2.0, "memory")
    assert MachineLimits(float32=1.0).least_time(Work(100, 1), "float32") is None


def test_the_higher_of_two_measurements() -> None:
    later = MachineLimits(read_bandwidth=40.0, float32=120.0)
    assert LIMITS.or_more(later) == MachineLimits(read_bandwidth=50.0, float32=120.0, bfloat16=400.0)
    assert MachineLimits().or_more(MachineLimits()) == MachineLimits()


def test_no_native_module(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert limit_probe("cpu", 2**20).measure() == MachineLimits()


def test_the_largest_cache_counts(tmp_path: Path) -> None:
    assert last_level_cache_bytes(tmp_path) == ASSUMED_CACHE_BYTES
    for index, size in enumerate(("32K", "1024K", "98304K", "odd")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    assert last_level_cache_bytes(tmp_path) == 96 * 2**20


@pytest.fixture
def native() -> Any:
    pytest.importorskip("torch")
    return pytest.importorskip("pagedbench.kernels._cpu")


def test_every_line_is_read_once(native: Any) -> None:
    """Word i holds i, so the sum says what was read."""
    probe = native.ReadProbe(5 * 2**20, 2, [])
    num_words = probe.num_bytes // 8
    assert probe.num_bytes == 4 * 2**20
    for streams in (1, 4, 8):
        for threads in (1, 3):
            assert probe.read(streams, threads) == num_words * (num_words - 1) // 2


def test_weights_are_read_if_there_are_enough(native: Any) -> None:
    """Panels of ones: a word is two or four of them, and padding is zero."""
    torch = pytest.importorskip("torch")
    one = native.Linear(torch.ones(640, 64), None, "none", 1)
    other = native.Linear(torch.ones(64, 128, dtype=torch.bfloat16), None, "none", 1)
    sizes = [one.num_bytes, other.num_bytes]
    probe = native.ReadProbe(sum(sizes), 2, [one, other])
    assert probe.num_bytes == sum(sizes)
    expected = 640 * 64 // 2 * 0x3F800000_3F800000 + 64 * 128 // 4 * 0x3F80_3F80_3F80_3F80
    assert {probe.read(streams, threads) for streams in (1, 4, 8) for threads in (1, 3)} == {
        expected % 2**64
    }
    assert native.ReadProbe(sizes[0], 2, [one, other]).num_bytes == sizes[0]
    assert native.ReadProbe(sum(sizes) + 1, 2, [one, other]).num_bytes == 2 * 2**20  # its own


@pytest.mark.parametrize(("streams", "threads"), [(0, 1), (3, 1), (4, 0)])
def test_impossible_reads(native: Any, streams: int, threads: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        native.ReadProbe(1, 1, []).read(streams, threads)


def test_flops_are_counted(native: Any) -> None:
    one = native.multiply_add(False, 1000, 1)
    assert one in {1000 * chains * 2 for chains in (16 * 16, 12 * 8, 12 * 4)}
    assert native.multiply_add(False, 3000, 2) == 6 * one
    sixteen_bit = native.multiply_add(True, 1000, 1)
    assert sixteen_bit is None or sixteen_bit == 16 * 32 * 2 * 1000
    with pytest.raises(ValueError, match="at least 1"):
        native.multiply_add(False, 0, 1)


def test_probes_of_the_cpu(native: Any) -> None:
    found = CpuProbe(native, 2**22, 1).measure()
    assert found.read_bandwidth is not None
    assert found.read_bandwidth > 0
    assert found.peak("float32") is not None
    assert found.peak("float16") == found.float32
