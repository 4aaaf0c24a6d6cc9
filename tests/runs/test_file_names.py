"""Names of results: which are ours, and how folders are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.runs.file_names import OURS, compact_time, dated_folder, is_ours, ours_in

if TYPE_CHECKING:
    from pathlib import Path


def test_compact_time() -> None:
    assert compact_time("2025-01-31T12:00:05Z") == "20250131-120005"
    assert compact_time("2025-01-31T12:00:05.123456+00:00") == "20250131-120005"


def test_a_dated_folder_is_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for end in ("", "-2", "-3"):
        folder = dated_folder("sweep", "2025-01-31T12:00:05Z")
        assert str(folder) == f"results/20250131-120005_sweep{end}"
        folder.mkdir(parents=True)


@pytest.mark.parametrize("name", ["notes.txt", "table.csv", "figures.txt", ".manifest.json"])
def test_other_names_are_not_ours(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")
    assert not is_ours(name)
    assert ours_in(tmp_path) == []


def test_the_manifest_comes_first(tmp_path: Path) -> None:
    names = {*OURS, "fig12a.csv", "fig12a.svg"}
    for name in names:
        (tmp_path / name).write_text("")
    found = ours_in(tmp_path)
    assert found[0] == "manifest.json"
    assert set(found) == names
