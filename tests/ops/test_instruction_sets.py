"""Every instruction set that this processor has gives right results, not only the one it would choose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = [
    "test_decode.py",
    "test_prefill.py",
    "test_windows.py",
    "test_linear.py",
    "test_norms.py",
    "test_slots.py",
]


@pytest.mark.parametrize("name", ["portable", "avx2", "avx512"])
def test_narrower_instruction_sets(name: str) -> None:
    pytest.importorskip("pagedbench.ops.native", reason="native kernels not built", exc_type=ImportError)
    environment = {**os.environ, "PAGEDBENCH_ISA": name, "OMP_NUM_THREADS": "1"}
    code = "import pagedbench.ops.native as native; print(native.instruction_set)"
    chosen = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if chosen.stdout.strip() != name:
        pytest.skip(f"this processor has no {name}")
    command = [sys.executable, "-m", "pytest", "-q", "-k", "native", *(str(HERE / test) for test in TESTS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout
