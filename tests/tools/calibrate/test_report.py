"""What `calibrate` says: its errors, a machine that was not quiet, and how far it is."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from pagedbench.tools.calibrate.fitting import Errors
from pagedbench.tools.calibrate.replay import Replay
from pagedbench.tools.calibrate.report import Calibration, print_calibration, save_profile
from simulation.test_profile import PROFILE

if TYPE_CHECKING:
    from pathlib import Path


REPLAYS = tuple(
    Replay(load, rate, {"request_throughput": (1.0, 1.04)}, 0.3)
    for load, rate in (("half", 0.5), ("double", 2.0))
)


def calibration(
    spread: float = 0.1,
    bandwidths: tuple[float | None, float | None] = (60e9, 64e9),
    replays: tuple[Replay, ...] = (),
) -> Calibration:
    errors = (Errors(60, 0.02, 0.1), Errors(30, 0.03, 0.12))
    return Calibration(PROFILE, 3, spread, bandwidths, *errors, replays)


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


@pytest.mark.parametrize(
    ("bandwidths", "is_said"), [((60e9, 64e9), False), ((None, None), False), ((34e9, 64e9), True)]
)
def test_memory_bandwidth_that_changed_is_told_of(
    tmp_path: Path, bandwidths: tuple[float | None, float | None], is_said: bool
) -> None:
    said = " ".join(said_of(calibration(bandwidths=bandwidths), tmp_path / "p.json").split())
    assert ("Memory bandwidth varied" in said) == is_said
    assert ("(34 to 64 GB/s)" in said) == is_said


def test_replays_stand_beside_their_simulations(tmp_path: Path) -> None:
    said = said_of(calibration(replays=REPLAYS), tmp_path / "p.json")
    assert said.index("half load") < said.index("double load")
    assert said.count("+4.0%") == 2
    assert max(map(len, said.splitlines())) <= 80 + len(str(tmp_path))


def test_the_spread_and_the_bandwidths_are_saved(tmp_path: Path) -> None:
    place = tmp_path / "p.json"
    save_profile(calibration(0.4, replays=REPLAYS), place)
    saved = json.loads(place.read_text())
    assert saved["spread_between_rounds"] == 0.4
    assert saved["memory_bandwidths"] == [60e9, 64e9]
    assert [item["load"] for item in saved["replays"]] == ["half", "double"]
    assert list(tmp_path.iterdir()) == [place]
