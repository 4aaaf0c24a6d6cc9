"""Files that stand by themselves replace nothing unasked, and leave no halves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.config import ConfigError
from pagedbench.runs.files import ReportError
from pagedbench.runs.single_files import check_files, write_file

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "plot.svg"
    check_files([path], force=False)
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_what_is_in_the_way_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    path.write_bytes(b"old")
    with pytest.raises(ConfigError, match="exists: choose another --output, or replace it with --force"):
        check_files([path], force=False)
    check_files([path], force=True)
    with pytest.raises(ConfigError, match="is a folder"):
        check_files([tmp_path], force=True)
    with pytest.raises(ConfigError, match="not a folder that may be written to"):
        check_files([path / "inner.svg"], force=True)
    with pytest.raises(ReportError, match="could not be written"):
        write_file(path / "inner.svg", b"new")
    assert path.read_bytes() == b"old"
