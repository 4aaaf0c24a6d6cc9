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
    "test_scores.py",
    "test_linear.py",
    "test_norms.py",
    "test_slots.py",
]


RANKED = ["portable", "avx2", "avx512", "avx512_bf16"]
"""From narrow to wide. A processor has all up to the widest, which every other test runs with."""

SCRIPT = """
import sys, pytest, pagedbench.ops.native as native
assert native.instruction_set == sys.argv[1]
sys.exit(pytest.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("name", RANKED[:-1])
def test_narrower_instruction_sets(name: str) -> None:
    reason = "native kernels not built"
    native = pytest.importorskip("pagedbench.ops.native", reason=reason, exc_type=ImportError)
    if RANKED.index(name) >= RANKED.index(native.instruction_set):
        pytest.skip(f"this process has {native.instruction_set}")
    environment = {**os.environ, "PAGEDBENCH_ISA": name, "OMP_NUM_THREADS": "1"}
    tests = ["-q", "-k", "native", *(str(HERE / test) for test in TESTS)]
    command = [sys.executable, "-c", SCRIPT, name, *tests]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    assert " passed" in done.stdout
