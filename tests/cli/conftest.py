"""Every test of the command line works in an empty folder of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli.command import Answer, make_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def pagedbench(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    return make_command(capsys)
