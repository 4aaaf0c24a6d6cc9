"""What a meter makes of the readings that Linux gives."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pagedbench.clock import WallClock
from pagedbench.runs.machine_load import Load, LoadMeter, load_meter
from runs.fake_proc import TICKS, FakeProc

WALL = 10.0


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProc:
    """Ten seconds pass between two readings."""
    monkeypatch.setattr(WallClock, "now", WALL)
    fake = FakeProc(tmp_path)
    fake.write()
    return fake


def started(proc: FakeProc, cores: tuple[int, ...] = (0, 1)) -> LoadMeter:
    return LoadMeter(proc.root, frozenset(cores), 1 / TICKS)


def read(meter: LoadMeter, proc: FakeProc) -> Load:
    proc.write()
    load = meter.read()
    assert load is not None
    return load


def test_a_run_alone(proc: FakeProc) -> None:
    meter = started(proc)
    proc.user[0] += 9.0
    proc.own += 9.0
    proc.threads["7"] = (49.0, 1.01)
    load = read(meter, proc)
    assert (load.wall_s, load.cpu_s, load.cores, load.foreign_cores) == (WALL, 9.0, 2, 0.0)
    assert load.cpu_share == pytest.approx(9 / 9.01)
    assert not load.is_busy


def test_others_on_its_cores(proc: FakeProc) -> None:
    meter = started(proc)
    proc.user = [user + WALL for user in proc.user]
    proc.own += 5.0
    proc.threads["7"] = (45.0, 6.0)
    load = read(meter, proc)
    assert load.foreign_cores == pytest.approx(1.5)  # of the two that it may use
    assert load.cpu_share == pytest.approx(0.5)
    assert load.is_busy


def test_others_on_other_cores(proc: FakeProc) -> None:
    meter = started(proc)
    proc.user[2:] = [user + WALL for user in proc.user[2:]]
    proc.threads["7"] = (45.0, 1.0)
    load = read(meter, proc)
    assert (load.foreign_cores, load.cpu_share) == (0.0, 1.0)


def test_the_slowest_of_the_threads_that_work_counts(proc: FakeProc) -> None:
    """All wait for it at every barrier. One that hardly wants to run does not count."""
    proc.threads["8"] = (0.0, 0.0)
    proc.write()
    meter = started(proc)
    proc.threads = {"7": (49.0, 1.0), "8": (4.0, 4.0), "9": (5.0, 3.0), "10": (0.1, 0.9)}
    load = read(meter, proc)
    assert load.cpu_share == pytest.approx(0.5)


def test_what_the_host_takes_counts_as_foreign_and_as_lost(proc: FakeProc) -> None:
    meter = started(proc)
    proc.user = [user + 8.0 for user in proc.user]
    proc.stolen = [stolen + 2.0 for stolen in proc.stolen]
    proc.own += 16.0
    proc.threads["7"] = (48.0, 1.0)
    load = read(meter, proc)
    assert load.foreign_cores == pytest.approx(0.4)
    assert load.cpu_share == pytest.approx(0.8)
    assert load.is_busy


@pytest.mark.parametrize("missing", ["stat", "self/stat", "self/task/7/schedstat", "self"])
def test_nothing_is_claimed_where_linux_is_silent(proc: FakeProc, missing: str) -> None:
    meter = started(proc)
    place = proc.root / missing
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert meter.read() is None
    assert started(proc).read() is None


def test_a_simulated_device_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load_meter("sim:a100-40gb") is None
    meter = load_meter("cpu", tmp_path)
    assert meter is not None
    assert meter.read() is None
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert load_meter("cpu") is None


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this system does not tell")
def test_this_machine() -> None:
    meter = load_meter("cpu")
    assert meter is not None
    sum(range(10**6))
    load = meter.read()
    assert load is not None
    assert load.wall_s > 0
    assert 0 <= load.cpu_share <= 1


@pytest.mark.parametrize(
    ("foreign_cores", "cpu_share", "is_busy"),
    [
        (1.5, 0.4, True),
        (0.0, 0.4, False),  # its own threads wait for each other
        (1.0, 0.97, False),  # others work, but on cores that it does not want
        (0.2, 0.85, True),
    ],
)
def test_both_must_be_seen(foreign_cores: float, cpu_share: float, is_busy: bool) -> None:
    load = Load(wall_s=5.0, cpu_s=4.0, cores=2, foreign_cores=foreign_cores, cpu_share=cpu_share)
    assert load.is_busy is is_busy
    assert load.document()["busy"] is is_busy
    assert load.document()["foreign_cores"] == foreign_cores


def test_the_sentence_has_both_figures() -> None:
    assert Load(5.0, 4.0, 2, 1.46, 0.333).sentence == (
        "This machine was busy: other programs kept 1.5 of 2 cores, and this one got 33 % of the CPU time "
        "that it wanted. Its times say little."
    )
