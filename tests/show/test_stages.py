"""Stages of a long measurement, without a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.show.stages import Stages

if TYPE_CHECKING:
    import pytest


def test_without_a_terminal_every_stage_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages("warming up") as stages:
        for text in ("round 1: batch 1 of 9", "round 1: batch 2 of 9", "round 2: batch 1 of 9"):
            stages.tell(text)
    assert capsys.readouterr().err == "round 1\nround 2\n"
