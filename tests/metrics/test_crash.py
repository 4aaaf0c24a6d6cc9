"""A crash is one line: what was raised, and where in the user's own code."""

from __future__ import annotations

import runpy
from typing import TYPE_CHECKING

import pytest

from pagedbench.memory.block_pool import BlockPool
from pagedbench.metrics.crash import crash_text

if TYPE_CHECKING:
    from pathlib import Path


def text_of(folder: Path, code: str, match: str) -> str:
    (folder / "mine.py").write_text(code)
    with pytest.raises((RuntimeError, ValueError, AssertionError), match=match) as caught:
        runpy.run_path(str(folder / "mine.py"))
    return crash_text(caught.value)


def test_it_names_the_users_line_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "def grow():\n    raise RuntimeError('out\\n of luck')\ngrow()\n"
    assert text_of(tmp_path, code, "of luck") == "RuntimeError: out of luck (mine.py:2, in grow)"


def test_it_names_the_line_that_called_a_library(tmp_path: Path) -> None:
    code = "import json\n\njson.loads('[')\n"
    assert text_of(tmp_path, code, "Expecting value").endswith(f"({tmp_path / 'mine.py'}:3, in <module>)")


def test_an_error_without_a_word_has_its_name_alone(tmp_path: Path) -> None:
    assert text_of(tmp_path, "assert 1 > 2\n", "^$").startswith("AssertionError (")


def test_a_crash_of_this_package_is_said_too() -> None:
    pool = BlockPool(0, lambda block: None)
    with pytest.raises(KeyError, match="dictionary is empty") as caught:
        pool.take()
    assert "(tests/" in crash_text(caught.value)  # this file is nobody's library
    error = caught.value.with_traceback(caught.value.__traceback__.tb_next)
    assert "(pagedbench/memory/eviction.py:" in crash_text(error)


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert crash_text(ValueError("no")) == "ValueError: no"
