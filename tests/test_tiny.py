"""One small test of everything: trace, plan, engine, metrics and folder, simulated and on a real model."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from models.folders import make_llama_folder

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "pagedbench", "run", "--progress", "none", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("is_real", [False, True], ids=["simulated", "real"])
def test_the_whole_pipeline(tmp_path: Path, is_real: bool) -> None:
    model = ["--model", "opt-13b", "--device", "sim:a100-40gb"]
    if is_real:
        make_llama_folder(tmp_path / "model")
        model = ["--model", str(tmp_path / "model"), "--device", "cpu", "--warmup", "1", "--rate", "inf"]
    printed = run(*model, "--trace", "alpaca", "--num-requests", "6", "--output", str(tmp_path / "out"))
    assert "paged" in printed
    summary = pd.read_csv(tmp_path / "out" / "summary.csv").iloc[0]
    requests = pd.read_csv(tmp_path / "out" / "requests.csv")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert summary["completed"] == len(requests) == 6
    assert summary["valid"]
    assert summary["output_throughput"] > 0
