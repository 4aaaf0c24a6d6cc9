"""A folder that one command works in is refused to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.config import ConfigError
from pagedbench.runs.alone import alone_in

if TYPE_CHECKING:
    from pathlib import Path


def test_two_sweeps_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    with (
        alone_in(folder, "sweep"),
        pytest.raises(ConfigError, match="another sweep is at work"),
        alone_in(folder, "sweep"),
    ):
        raise AssertionError("nobody comes here")
    with alone_in(folder, "sweep"):  # the first has ended
        assert list(folder.iterdir()) == []


def test_nobody_works_in_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="choose another --output"),
        alone_in(tmp_path / "file" / "out", "sweep"),
    ):
        raise AssertionError("nobody comes here")
