from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from pagedbench.report.machine import fingerprint, git_commit, versions

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_fingerprint_is_stable_cheap_and_plain() -> None:
    start = time.perf_counter()
    first = fingerprint()
    assert time.perf_counter() - start < 0.5
    assert fingerprint() == first
    assert json.loads(json.dumps(first)) == first
    assert first["cores"] == os.cpu_count()
    assert first["cpu"]


def test_neither_torch_nor_pandas_is_imported_for_it() -> None:
    code = (
        "import sys; from pagedbench.report import files, machine as m; m.fingerprint(); m.versions();"
        "print([name for name in ('torch', 'pandas', 'transformers') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_versions_name_what_is_installed() -> None:
    found = versions()
    assert found["python"] == sys.version.split()[0]
    assert "torch" in found
    assert "not-a-library" not in found


def test_git_commit_is_that_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "init", "-q"], check=True)
    assert git_commit() is None  # no commit yet
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    commit = git_commit()
    assert commit is not None
    assert len(commit) == 40
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() is None  # no git
