from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from pagedbench.runs.machine import fingerprint, git_commit, versions

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_fingerprint_is_stable_and_plain() -> None:
    first = fingerprint()
    assert fingerprint() == first
    assert json.loads(json.dumps(first)) == first
    assert first["cores"] == os.cpu_count()
    assert first["cpu"]


def test_neither_torch_nor_pandas_is_imported_for_it() -> None:
    code = (
        "import sys; from pagedbench.runs import files, machine as m; m.fingerprint(); m.versions();"
        "print([name for name in ('torch', 'pandas', 'transformers') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_versions_name_what_is_installed() -> None:
    found = versions()
    assert found["python"] == sys.version.split()[0]
    assert "torch" in found
    assert "not-a-library" not in found


def test_git_commit_is_that_of_the_programs_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    program = tmp_path / "program.py"
    program.write_text("")
    assert git_commit(program) is None
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    assert git_commit(program) is None  # somebody else's repository, such as that of a virtual environment
    subprocess.run(["git", "add", "program.py"], check=True)
    subprocess.run(["git", *who, "commit", "-q", "-m", "second"], check=True)
    commit = git_commit(program)
    assert commit is not None
    assert len(commit) == 40
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(program) is None  # no git
