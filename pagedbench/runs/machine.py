"""The machine, the versions and the commit with which a result was made. Imports no torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pagedbench
from pagedbench.ops.cpu_info import cpu_fact

LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pandas")


COMMIT_VARIABLE = "PAGEDBENCH_COMMIT"
"""An environment variable: the commit from which this program's files were copied to this machine."""


def provenance() -> dict[str, object]:
    """The origin of a tool's result: what was typed, the versions, the commit and the machine."""
    return {
        "command": shlex.join(["pagedbench", *sys.argv[1:]]),
        "versions": versions(),
        "git_commit": git_commit(),
        "machine": fingerprint(),
    }


def fingerprint() -> dict[str, object]:
    """Facts that do not change between two runs on one machine. Memory is in bytes."""
    return {
        "cpu": cpu_fact("model name") or platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory": _total_memory(),
        "os": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "gpus": _nvidia_gpus(),
        "torch": _torch_facts(),
    }


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions of pagedbench, Python and the installed libraries, without importing them."""
    found = {"pagedbench": pagedbench.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def install_command(package: str) -> str:
    """A shell command that installs a package into the environment of this program."""
    return f"{shlex.quote(sys.executable)} -m pip install {package}"


def git_commit(program: Path = Path(__file__)) -> str | None:
    """The commit of the checkout that this program runs or was copied from; None if it is installed.

    Args:
        program: one of the program's files.
    """
    git, copied_from = shutil.which("git"), os.environ.get(COMMIT_VARIABLE) or None
    if copied_from is not None or git is None:
        return copied_from

    def ask(*words: str) -> str | None:
        command = [git, "-C", str(program.parent), *words]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else None

    try:
        is_tracked = ask("ls-files", "--error-unmatch", program.name) is not None
        return ask("rev-parse", "--verify", "HEAD") if is_tracked else None
    except (OSError, subprocess.TimeoutExpired):
        return None


def available_memory() -> int | None:
    """Bytes that can be used without swapping; None if the system does not report them."""
    lines = _lines(Path("/proc/meminfo"))
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _total_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _nvidia_gpus() -> list[str]:
    """The models that the driver lists, without loading a library."""
    paths = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    fields = [line.partition(":") for path in paths for line in _lines(path)]
    return [value.strip() for name, _, value in fields if name == "Model"]


def _torch_facts() -> dict[str, object] | None:
    """Facts about torch; None if the run did not need it (simulation)."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    return {"version": str(torch.__version__), "threads": torch.get_num_threads()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
