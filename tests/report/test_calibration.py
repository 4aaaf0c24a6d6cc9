"""What `calibrate` says: its errors, a machine that was not quiet, and how far it is."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from execution.costs.test_profile import PROFILE
from pagedbench.execution.costs.fitting import Errors
from pagedbench.report.calibration import Calibration, Stages, print_calibration, save_profile

if TYPE_CHECKING:
    from pathlib import Path


def calibration(spread: float) -> Calibration:
    return Calibration(PROFILE, 3, spread, Errors(60, 0.02, 0.1), Errors(30, 0.03, 0.12), ())


@pytest.mark.parametrize(("spread", "is_said"), [(0.1, False), (0.4, True)])
def test_a_machine_that_was_not_quiet_is_told_of(tmp_path: Path, spread: float, is_said: bool) -> None:
    console = Console(file=io.StringIO(), width=80)
    print_calibration(console, calibration(spread), tmp_path / "p.json")
    said = console.file.getvalue()
    assert "3.0%" in said
    assert ("not quiet" in said) == is_said
    assert (f"{spread:.0%} longer" in said.replace("\n", " ")) == is_said


def test_the_spread_is_saved(tmp_path: Path) -> None:
    place = tmp_path / "p.json"
    save_profile(calibration(0.4), place)
    assert json.loads(place.read_text())["spread_between_rounds"] == 0.4
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
