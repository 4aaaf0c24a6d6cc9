"""What `calibrate` says: its errors, a machine that was not quiet, and how far it is."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from pagedbench.tools.calibrate.fitting import Errors
from pagedbench.tools.calibrate.report import (
    Calibration,
    Replay,
    Stages,
    UsualPace,
    print_calibration,
    save_profile,
)
from simulation.test_profile import PROFILE

if TYPE_CHECKING:
    from pathlib import Path


ONE_PACE = UsualPace(60e9, 55e9, 64e9, share=0.98, num_others=0)
REPLAYS = tuple(
    Replay(load, rate, {"request_throughput": (1.0, 1.04)}, 0.3, at_pace)
    for load, rate, at_pace in (("half", 0.5, 1.0), ("double", 2.0, 0.4))
)


def calibration(
    spread: float = 0.1, pace: UsualPace = ONE_PACE, replays: tuple[Replay, ...] = ()
) -> Calibration:
    errors = (Errors(60, 0.02, 0.1), Errors(30, 0.03, 0.12))
    return Calibration(PROFILE, 3, spread, pace, *errors, replays)


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


def test_memory_that_changed_its_pace_is_told_of(tmp_path: Path) -> None:
    place = tmp_path / "p.json"
    assert "pace of this machine's memory" not in said_of(calibration(), place)
    unread = UsualPace(None, None, None, share=1.0, num_others=0)
    assert "pace of this machine's memory" not in said_of(calibration(pace=unread), place)
    changing = UsualPace(60e9, 34e9, 64e9, share=0.6, num_others=0)
    said = said_of(calibration(pace=changing), place)
    assert "changed between 34 GB/s and 64 GB/s" in said
    assert "holds for 60 GB/s, which 60% of the visits had" in said
    assert "at other paces only" not in said
    assert "3 batches" in said_of(calibration(pace=replace(changing, num_others=3)), place)


def test_a_replay_at_another_pace_is_marked(tmp_path: Path) -> None:
    said = said_of(calibration(replays=REPLAYS), tmp_path / "p.json")
    marked = [line for line in said.splitlines() if "pace of memory" in line]
    assert len(marked) == 1
    assert "40%" in marked[0]
    assert said.index(marked[0]) > said.index("double load")
    assert said.count("+4.0%") == 2


def test_the_spread_and_the_pace_are_saved(tmp_path: Path) -> None:
    place = tmp_path / "p.json"
    save_profile(calibration(0.4, replays=REPLAYS), place)
    saved = json.loads(place.read_text())
    assert saved["spread_between_rounds"] == 0.4
    assert (saved["memory_pace"]["usual"], saved["memory_pace"]["share"]) == (60e9, 0.98)
    assert [item["at_pace"] for item in saved["replays"]] == [1.0, 0.4]
    assert list(tmp_path.iterdir()) == [place]


def test_without_a_terminal_every_stage_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages("warming up") as stages:
        for text in (
            "round 1 of 2: batch 1 of 9",
            "round 1 of 2: batch 2 of 9",
            "round 2 of 2: batch 1 of 9",
        ):
            stages.tell(text)
    assert capsys.readouterr().err == "round 1 of 2\nround 2 of 2\n"
