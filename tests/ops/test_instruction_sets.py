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
import os, sys
import pytest, torch  # once for all

names, *tests = sys.argv[1:]
for name in names.split():
    child = os.fork()
    if child == 0:
        os.environ["PAGEDBENCH_ISA"] = name
        from pagedbench.ops import native
        assert native.instruction_set == name
        code = pytest.main(tests)
        sys.stdout.flush()
        os._exit(code)
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_narrower_instruction_sets() -> None:
    reason = "native kernels not built"
    native = pytest.importorskip("pagedbench.ops.native", reason=reason, exc_type=ImportError)
    narrower = RANKED[: RANKED.index(native.instruction_set)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    tests = ["-q", "-k", "native", *(str(HERE / test) for test in TESTS)]
    command = [sys.executable, "-c", SCRIPT, " ".join(narrower), *tests]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[1])
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.split(" ")[0] in RANKED] == [f"{name} 0" for name in narrower], (
        done.stderr[-2000:] + done.stdout[-2000:]
    )
    assert sum(" passed" in line for line in lines) == len(narrower)
