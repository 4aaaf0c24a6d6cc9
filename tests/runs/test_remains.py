"""What a killed process leaves is removed by the next one in that place, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pagedbench.runs import remains
from pagedbench.runs.files import write_file
from pagedbench.runs.remains import clear_remains, hidden_path, own_mark, remains_in, scratch_folder
from runs.results import ALWAYS, make_plain_result, names, saved

NOBODY = 10**9
"""No process has such a number."""

KILLED = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from pagedbench.runs import files, manifest, remains
from runs.results import make_plain_result

def die(*words, **options):
    os.kill(os.getpid(), signal.SIGKILL)

"""
RUN = "files.write_run(make_plain_result(), Path('{place}'), force={force}, save_outputs=False)"
DEATHS = {
    "of a run": f"manifest.manifest_document = die; {RUN.format(place='run', force=False)}",
    "of a run in the current folder": f"files._fill = die; {RUN.format(place='.', force=False)}",
    "of a file": 'Path.replace = die; files.write_file(Path("table.csv"), b"1")',
    "of a scratch folder": (
        'remains.tempfile.tempdir = "."\n'
        "with remains.scratch_folder() as place: (place / 'config.toml').write_text(''); die()"
    ),
}


def killed(code: str, folder: Path) -> None:
    answer = subprocess.run([sys.executable, "-c", KILLED + code], cwd=folder, check=False)
    assert answer.returncode == -signal.SIGKILL


@pytest.mark.parametrize("death", DEATHS)
def test_an_interrupt_while_a_module_is_imported_leaves_nothing(death: str, tmp_path: Path) -> None:
    """The process ends at once, as an exception there would show as a module that is broken."""
    (tmp_path / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ready = "import signal; from pagedbench.runs.signals import interrupt; signal.signal(2, interrupt)\n"
    code = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "import slow") + ready + DEATHS[death]
    answer = subprocess.run([sys.executable, "-B", "-c", code], cwd=tmp_path, check=False)
    assert answer.returncode == 130
    assert names(tmp_path) == {"slow.py"}


@pytest.mark.parametrize("death", DEATHS)
def test_what_a_killed_process_left(death: str, tmp_path: Path) -> None:
    killed(DEATHS[death], tmp_path)
    (left,) = remains_in(tmp_path)
    assert left.is_abandoned
    write_file(tmp_path / "other.csv", b"2")
    assert names(tmp_path) == {"other.csv"}


def test_a_run_that_was_to_be_replaced_comes_back(tmp_path: Path) -> None:
    before = saved(make_plain_result(), tmp_path / "run")
    (before / "notes.txt").write_text("mine", encoding="utf-8")
    manifest = (before / "manifest.json").read_bytes()
    death = "real = Path.rename; Path.rename = lambda a, b: real(a, b) if a.name == 'run' else die()"
    killed(f"{death}; " + RUN.format(place="run", force=True), tmp_path)
    assert names(tmp_path) & {"run"} == set()
    clear_remains(tmp_path)
    assert names(tmp_path) == {"run"}
    assert names(before) == ALWAYS | {"notes.txt"}
    assert (before / "manifest.json").read_bytes() == manifest


def test_files_beside_a_run_that_was_replaced_come_back(tmp_path: Path) -> None:
    before = saved(make_plain_result(), tmp_path / "run")
    (before / "notes.txt").write_text("mine", encoding="utf-8")
    killed(f"files.ours_in = die; {RUN.format(place='run', force=True)}", tmp_path)
    assert "notes.txt" not in names(before)
    clear_remains(tmp_path)
    assert names(tmp_path) == {"run"}
    assert names(before) == ALWAYS | {"notes.txt"}


def test_a_living_process_is_left_alone(tmp_path: Path) -> None:
    mine = hidden_path(tmp_path / "run", "incomplete")
    mine.mkdir()
    (tmp_path / f".old.incomplete-{os.getpid()}").mkdir()
    assert [item.is_abandoned for item in remains_in(tmp_path)] == [False, False]
    before = names(tmp_path)
    clear_remains(tmp_path)
    assert names(tmp_path) == before


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes have no start times here")
def test_a_number_that_is_used_again(tmp_path: Path) -> None:
    pid, start, system = own_mark().split("-")
    (tmp_path / f".a.incomplete-{pid}-{int(start) - 1}-{system}").mkdir()
    (tmp_path / f".b.incomplete-{NOBODY}-{start}-{'0' * 8}").mkdir()  # of another system
    clear_remains(tmp_path)
    assert names(tmp_path) == {f".b.incomplete-{NOBODY}-{start}-{'0' * 8}"}


def test_what_is_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / f".own.incomplete-{NOBODY}"
    own.mkdir()
    (own / "thesis.txt").write_text("mine", encoding="utf-8")
    (own / "steps.csv").write_text("", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f".link.incomplete-{NOBODY}").symlink_to(tmp_path / "elsewhere")
    for name in (f"run.incomplete-{NOBODY}", ".run.incomplete-", ".run.incomplete-12x", ".incomplete"):
        (tmp_path / name).mkdir()
    before = names(tmp_path)
    clear_remains(tmp_path)
    assert names(tmp_path) == before
    assert names(own) == {"thesis.txt"}
    (tmp_path / f".other.incomplete-{NOBODY}").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: -1)
    clear_remains(tmp_path)
    assert names(tmp_path) == before | {f".other.incomplete-{NOBODY}"}


def test_without_start_times_the_number_alone_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remains, "PROC", tmp_path / "none")
    assert own_mark() == str(os.getpid())
    (tmp_path / f".a.incomplete-{NOBODY}").mkdir()
    hidden_path(tmp_path / "b", "incomplete").mkdir()
    clear_remains(tmp_path)
    assert names(tmp_path) == {f".b.incomplete-{os.getpid()}"}


def test_a_scratch_folder_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remains.tempfile, "tempdir", str(tmp_path))
    with scratch_folder() as folder:
        (folder / "config.toml").write_text("", encoding="utf-8")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert names(tmp_path) == set()
