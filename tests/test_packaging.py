"""The shape of the install: kernels is a namespace package, and importing the package costs nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pagedbench

ROOT = Path(__file__).resolve().parents[1]


def test_kernels_is_a_namespace_package():
    """transformers probes for a package named `kernels` by importing it."""
    assert not list((ROOT / "kernels").rglob("__init__.py"))
    spec = importlib.util.find_spec("pagedbench.kernels")
    if spec is not None:  # absent where the kernels were not built
        assert spec.origin is None


def test_version_is_that_of_the_install():
    assert importlib.metadata.version("pagedbench") == pagedbench.__version__


def test_package_and_ops_import_without_torch():
    code = "import sys, pagedbench, pagedbench.ops.select; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("index", ["", "https://example.org/cpu"])
def test_make_run_installs_what_the_commands_of_the_readme_need(index: str):
    """Plots, too; torch from where TORCH_INDEX says, and else from where pip is set up to look."""
    make = shutil.which("make")
    if make is None or not (ROOT / "Makefile").exists():
        pytest.skip("no make, or not in a source tree")
    command = [make, "--dry-run", "--always-make", "run", f"TORCH_INDEX={index}"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    (install,) = [line for line in said.splitlines() if "pip install" in line]
    assert install.endswith('--editable ".[plot]"')
    assert (f"--extra-index-url '{index}'" in install) == bool(index)
    assert ("--extra-index-url" in install) == bool(index)


def test_native_brings_no_runtime_of_openmp():
    """Beside torch's it would be another pool of threads that spin on the same cores."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    pytest.importorskip("pagedbench.ops.native", reason="native kernels not built", exc_type=ImportError)
    code = "import pagedbench.ops.native; print(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    runtimes = {line.split()[-1] for line in maps.splitlines() if "gomp" in line}
    assert len(runtimes) <= 1
