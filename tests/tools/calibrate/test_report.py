"""What `calibrate` says: its errors, a machine that was not quiet, and how far it is."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from pagedbench.tools.calibrate.fitting import Errors
from pagedbench.tools.calibrate.machine_profile import Bandwidth
from pagedbench.tools.calibrate.replay import Replay
from pagedbench.tools.calibrate.report import Calibration, print_calibration, save_profile
from simulation.test_profile import PROFILE

if TYPE_CHECKING:
    from pathlib import Path


STEADY = Bandwidth(60e9, 55e9, 64e9, share=0.98)
REPLAYS = tuple(
    Replay(load, rate, {"request_throughput": (1.0, 1.04)}, 0.3, is_same)
    for load, rate, is_same in (("half", 0.5, True), ("double", 2.0, False))
)


def calibration(
    spread: float = 0.1, bandwidth: Bandwidth = STEADY, replays: tuple[Replay, ...] = ()
) -> Calibration:
    errors = (Errors(60, 0.02, 0.1), Errors(30, 0.03, 0.12))
    return Calibration(PROFILE, 3, spread, bandwidth, *errors, replays)


def said_of(found: Calibration, place: Path) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_calibration(console, found, place)
    said: str = console.file.getvalue()
    return said


@pytest.mark.parametrize(("spread", "is_said"), [(0.1, False), (0.4, True)])
def test_a_machine_that_was_not_quiet_is_told_of(tmp_path: Path, spread: float, is_said: bool) -> None:
    said = said_of(calibration(spread), tmp_path / "p.json")
    assert "3.0%" in said
    assert ("not quiet" in said) == is_said
    assert (f"{spread:.0%} longer" in said.replace("\n", " ")) == is_said


def test_a_memory_bandwidth_that_varied_is_told_of(tmp_path: Path) -> None:
    place = tmp_path / "p.json"
    assert "Memory bandwidth" not in said_of(calibration(), place)
    assert "Memory bandwidth" not in said_of(
        calibration(bandwidth=Bandwidth(None, None, None, share=1.0)), place
    )
    said = said_of(calibration(bandwidth=Bandwidth(60e9, 34e9, 64e9, share=0.6)), place)
    text = " ".join(said.split())
    assert "Memory bandwidth varied during the run (34 to 64 GB/s): timings on this machine are" in text
    assert "holds for 60 GB/s, which 60% of the measurements had" in text


def test_a_replay_at_another_bandwidth_is_marked(tmp_path: Path) -> None:
    said = said_of(calibration(replays=REPLAYS), tmp_path / "p.json")
    assert "Replayed at another memory bandwidth than the profile's: double load." in said
    assert said.count("+4.0%") == 2
    assert max(map(len, said.splitlines())) <= 80 + len(str(tmp_path))


def test_the_spread_and_the_bandwidth_are_saved(tmp_path: Path) -> None:
    place = tmp_path / "p.json"
    save_profile(calibration(0.4, replays=REPLAYS), place)
    saved = json.loads(place.read_text())
    assert saved["spread_between_rounds"] == 0.4
    assert (saved["memory_bandwidth"]["usual"], saved["memory_bandwidth"]["share"]) == (60e9, 0.98)
    assert [item["has_same_bandwidth"] for item in saved["replays"]] == [True, False]
    assert list(tmp_path.iterdir()) == [place]
