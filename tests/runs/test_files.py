from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pagedbench.config import ConfigError, RunConfig
from pagedbench.runs import manifest
from pagedbench.runs.cell import run_name
from pagedbench.runs.file_names import FILES
from pagedbench.runs.files import (
    ReportError,
    check_files,
    check_folder,
    csv_text,
    default_folder,
    write_file,
    write_files,
)
from pagedbench.runs.result import summary_row
from runs.results import ALWAYS, make_plain_result, names, saved

if TYPE_CHECKING:
    from pagedbench.runs.result import Result


def test_the_folder_holds_every_file(tmp_path: Path) -> None:
    assert saved(make_plain_result(), tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert names(tmp_path / "a" / "b") == ALWAYS
    assert names(tmp_path / "a") == {"b"}
    saved(make_plain_result(), tmp_path / "c", save_outputs=True)
    assert (
        names(tmp_path / "c")
        == ALWAYS | {"outputs.jsonl"}
        == set(FILES) - {"preemptions.csv", "evictions.csv", "events.parquet", "server.csv"}
    )


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    check_folder(tmp_path / "run", force=False)
    saved(make_plain_result(), tmp_path / "run")
    assert names(tmp_path / "run") == ALWAYS


def test_force_replaces_the_run_and_keeps_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    saved(make_plain_result(), folder, save_outputs=True)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ConfigError, match="--force"):
        check_folder(folder, force=False)
    check_folder(folder, force=True)
    assert saved(make_plain_result(), folder, force=True) == folder
    assert names(folder) == ALWAYS | {"notes.txt"}  # no outputs of the run before
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert (folder / "manifest.json").read_bytes() != before
    assert names(tmp_path) == {"run"}


def test_a_place_taken_in_the_meantime(tmp_path: Path) -> None:
    """Two runs that started in the same second: neither is lost."""
    placed = [saved(make_plain_result(), tmp_path / "run") for _ in range(3)]
    assert [path.name for path in placed] == ["run", "run-2", "run-3"]
    assert all(names(path) == ALWAYS for path in placed)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_run_that_could_not_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    folder = tmp_path / "run"
    saved(make_plain_result(), folder)
    before = (folder / "manifest.json").read_bytes()

    def fail(result: Result) -> dict[str, object]:
        assert any(name.startswith(".run.incomplete-") for name in names(tmp_path))
        raise error

    monkeypatch.setattr(manifest, "manifest_document", fail)
    kind = ReportError if isinstance(error, OSError) else type(error)
    with pytest.raises(kind) as caught:
        saved(make_plain_result(), folder, force=True)
    if kind is ReportError:
        assert str(caught.value) == f"the run could not be saved in {folder}: no space left on device"
    assert names(tmp_path) == {"run"}
    assert (folder / "manifest.json").read_bytes() == before


def test_killed_while_it_is_written(tmp_path: Path) -> None:
    """The folder is absent, and what was written has a name that says that it is not complete."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from pagedbench.runs import files, manifest
from pagedbench.runs.file_names import FILES
from runs.results import make_plain_result
manifest.manifest_document = lambda result: os.kill(os.getpid(), signal.SIGKILL)
files.write_run(make_plain_result(), Path("run"), force=False, save_outputs=False)
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert answer.returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(".run.incomplete-")
    check_folder(tmp_path / "run", force=False)
    saved(make_plain_result(), tmp_path / "run")
    assert names(tmp_path / "run") == ALWAYS


def test_a_failed_swap_brings_the_old_run_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    saved(make_plain_result(), folder)
    rename = Path.rename

    def fail_once(path: Path, target: Path) -> Path:
        if ".incomplete-" in path.name:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(ReportError, match="permission denied"):
        saved(make_plain_result(), folder, force=True)
    assert names(tmp_path) == {"run"}
    assert names(folder) == ALWAYS


def test_places_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for place in ("file", "file/below", "loop/below", "n" * 300, "n" * 230):
        with pytest.raises(ConfigError, match=r"^--output [^\n]+$"):
            check_folder(tmp_path / place, force=True)
    monkeypatch.chdir(tmp_path)
    for place in (Path(), tmp_path):
        with pytest.raises(ConfigError, match="from inside"):
            check_folder(place, force=True)
    assert names(tmp_path) == {"file", "loop"}


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    check_folder(tmp_path / "link", force=False)
    saved(make_plain_result(), tmp_path / "link")
    assert names(tmp_path / "real") == ALWAYS
    assert (tmp_path / "link").is_symlink()


def test_the_current_folder_is_filled_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that sits in it would otherwise see an empty folder which is no longer anywhere."""
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    check_folder(Path(), force=False)
    assert saved(make_plain_result(), Path()) == Path()
    assert tmp_path.stat().st_ino == before
    assert names(tmp_path) == ALWAYS
    (placed,) = [path for path in [saved(make_plain_result(), Path())] if path != Path()]
    assert placed.parent == tmp_path  # taken in the meantime
    assert names(placed) == ALWAYS


def test_a_mount_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mount"
    folder.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == folder)
    saved(make_plain_result(), folder, save_outputs=True)
    before = (folder / "manifest.json").read_bytes()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    check_folder(folder, force=True)
    assert saved(make_plain_result(), folder, force=True) == folder
    assert names(folder) == ALWAYS | {"notes.txt"}
    assert (folder / "manifest.json").read_bytes() != before
    assert names(tmp_path) == {"mount"}


def test_a_filled_folder_lacks_its_manifest_until_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rename, seen = Path.rename, []

    def watch(path: Path, target: Path) -> Path:
        seen.append(names(tmp_path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watch)
    saved(make_plain_result(), Path())
    assert len(seen) == len(ALWAYS)
    assert not any("manifest.json" in files_then for files_then in seen)


def test_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = make_plain_result()
    folder = default_folder("paged_sharegpt_r2_s0", result.started)
    assert folder == Path("results/20250131-120005_paged_sharegpt_r2_s0")
    saved(result, folder)
    again = default_folder("paged_sharegpt_r2_s0", result.started)
    assert again.name == "20250131-120005_paged_sharegpt_r2_s0-2"


def test_names_of_runs_are_short() -> None:
    odd = make_plain_result(name="../my set/Ü" + "x" * 300)
    name = run_name(odd.plan.config, odd.plan, odd.trace, ())
    assert name.startswith("paged_my-set-xxx")
    assert len(name) < 100


def test_a_run_by_timestamps_has_no_rate() -> None:
    config = RunConfig(model="opt-13b", device="sim:a100-40gb", arrival="trace")
    result = make_plain_result(config=config)
    assert "_rtrace_" in run_name(result.plan.config, result.plan, result.trace, ())
    assert summary_row(result)["rate"] is None


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
    with pytest.raises(ConfigError, match="not a writable folder"):
        check_files([path / "inner.svg"], force=True)
    with pytest.raises(ReportError, match="could not be written"):
        write_file(path / "inner.svg", b"new")
    assert path.read_bytes() == b"old"


def test_text_and_bytes_lie_in_one_folder(tmp_path: Path) -> None:
    folder = write_files({"fig2.csv": "a\n", "fig2.png": b"\x89"}, tmp_path / "out", force=False)
    assert ((folder / "fig2.csv").read_bytes(), (folder / "fig2.png").read_bytes()) == (b"a\n", b"\x89")
    with pytest.raises(AssertionError, match="could not be replaced"):
        write_files({"notes.txt": ""}, tmp_path / "other", force=False)


def test_a_table_has_ten_digits_and_empty_cells() -> None:
    rows = [{"b": None, "a": 1 / 3}, {"a": 12, "b": "x,y"}]
    assert csv_text(("a", "b"), rows) == 'a,b\n0.3333333333,\n12,"x,y"\n'
