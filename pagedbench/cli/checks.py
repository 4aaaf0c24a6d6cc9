"""The checks of `doctor`: each looks at one thing that a run needs, and says what it found."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pagedbench.runs.machine import available_memory, install_command

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
REQUIRED_PACKAGES = (
    "numpy",
    "pandas",
    "transformers",
    "tokenizers",
    "safetensors",
    "datasets",
    "huggingface_hub",
)
COMPILERS = ("c++", "g++", "clang++")
DISK_BYTES = 200 * 2**20
"""Bytes of free disk space, enough for the results of a few long runs."""


class Readiness(Enum):
    """What a finding means for runs."""

    OK = "ok"
    NOTE = "note"  # runs work, but this is worth knowing
    FAIL = "FAIL"  # a run would fail


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    subject: str
    verdict: Readiness
    text: str


def all_findings() -> list[Finding]:
    """Every check, in reading order."""
    torch_finding = check_torch()
    findings = [check_python(), torch_finding, check_packages(), check_matplotlib(), check_cpu()]
    findings.append(check_compiler())
    if torch_finding.verdict is not Readiness.FAIL:
        findings += [check_kernels(), check_threads(), check_cuda(), check_default_run()]
    return [*findings, check_disk(), check_remains(), check_traces()]


def check_python() -> Finding:
    found = ".".join(str(part) for part in sys.version_info[:3])
    is_enough = sys.version_info >= (3, 11)
    return Finding(
        "python",
        Readiness.OK if is_enough else Readiness.FAIL,
        found if is_enough else f"{found}: 3.11 is needed",
    )


def check_torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", Readiness.FAIL, f"cannot be imported: {error}")
    return Finding("torch", Readiness.OK, str(torch.__version__))


def check_packages() -> Finding:
    """The libraries that runs import, by their installed versions."""
    versions, missing = [], []
    for name in REQUIRED_PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(
            "packages", Readiness.FAIL, f"needed and missing: {install_command(' '.join(missing))}"
        )
    return Finding("packages", Readiness.OK, ", ".join(versions))


def check_matplotlib() -> Finding:
    try:
        return Finding("matplotlib", Readiness.OK, importlib.metadata.version("matplotlib"))
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "matplotlib", Readiness.NOTE, f"missing, so no plots: {install_command('matplotlib')}"
        )


def check_compiler() -> Finding:
    """Find the compiler with which an install would build the native kernels."""
    found = shutil.which(os.environ.get("CXX", "")) or next(
        filter(None, map(shutil.which, COMPILERS)), None
    )
    if found is None:
        return Finding("compiler", Readiness.NOTE, "none: an install would leave out the native kernels")
    return Finding("compiler", Readiness.OK, found)


def check_cpu() -> Finding:
    from pagedbench.ops.cpu_info import cpu_fact
    from pagedbench.runs.machine import fingerprint

    facts = fingerprint()
    found = (cpu_fact("flags") or "").split()
    flags = [flag for flag in CPU_FLAGS if flag in found]
    extensions = ", ".join(flags) or "no vector extensions known"
    text = f"{facts['cpu']}, {facts['usable_cores']} usable cores, {extensions}"
    return Finding("cpu", Readiness.OK if "avx2" in flags else Readiness.NOTE, text)


def check_kernels() -> Finding:
    from pagedbench.ops.select import select_ops

    try:
        select_ops("cpu", "native")
    except ValueError as error:
        return Finding("kernels", Readiness.NOTE, f"reference (plain PyTorch, slower): {error}")
    return Finding("kernels", Readiness.OK, "native")


def check_threads() -> Finding:
    import torch

    asked = os.environ.get("OMP_NUM_THREADS")
    threads = torch.get_num_threads()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    text = f"{threads} threads on {usable} usable cores; OMP_NUM_THREADS {asked or 'not set'}"
    return Finding("threads", Readiness.OK if threads <= usable else Readiness.NOTE, text)


def check_cuda() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(
            "cuda", Readiness.NOTE, "no GPU: runs use the CPU, or a simulated device (--device sim:...)"
        )
    device = torch.cuda.get_device_name()
    if importlib.util.find_spec("triton") is None:
        return Finding(
            "cuda", Readiness.NOTE, f"{device}, slow without triton: {install_command('triton')}"
        )
    return Finding("cuda", Readiness.OK, f"{device}, triton {importlib.metadata.version('triton')}")


def check_default_run() -> Finding:
    """Would `pagedbench run` without options find its model, and room for weights and pool?"""
    from pagedbench.config import RunConfig
    from pagedbench.plan import make_plan
    from pagedbench.pool import ELEMENT_SIZES
    from pagedbench.runs.numbers import gibibytes

    try:
        plan = make_plan(RunConfig())
    except ValueError as error:
        return Finding("default run", Readiness.FAIL, str(error))
    needed = plan.shape.num_parameters * ELEMENT_SIZES[plan.config.dtype] + plan.kv_bytes
    available = available_memory()
    text = f"{plan.config.model} needs {gibibytes(needed)} for weights and KV pool"
    if available is None or plan.config.device != "cpu":
        return Finding("memory", Readiness.OK, text)
    verdict = Readiness.OK if needed < available else Readiness.FAIL
    return Finding("memory", verdict, f"{text}; {gibibytes(available)} are available")


def check_disk() -> Finding:
    from pagedbench.runs.numbers import gibibytes

    folder = Path("results") if Path("results").is_dir() else Path()
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return Finding(
            "disk", Readiness.FAIL, f"{folder.resolve()} cannot be written: run elsewhere, or use --output"
        )
    verdict = Readiness.OK if free >= DISK_BYTES else Readiness.FAIL
    return Finding("disk", verdict, f"{gibibytes(free)} free at {folder.resolve()}")


def check_remains() -> Finding:
    """Have killed runs left something here, in `results`, or where `compare --reference` works?"""
    from pagedbench.runs.remains import remains_in

    folders = [Path(), *(Path(place) for place, _, _ in os.walk("results")), Path(tempfile.gettempdir())]
    found = [remains for folder in folders for remains in remains_in(folder)]
    dead = [str(remains.path) for remains in found if remains.is_abandoned]
    others = [str(remains.path) for remains in found if not remains.is_abandoned]
    parts = []
    if dead:
        parts.append(f"left by killed runs, removed by the next run there: {', '.join(dead)}")
    if others:
        parts.append(f"still being written, or left by another system or user: {', '.join(others)}")
    return Finding("half-written", Readiness.NOTE if found else Readiness.OK, "; ".join(parts) or "nothing")


def check_traces() -> Finding:
    from pagedbench.workload.dataset import load_dataset

    try:
        rows = len(load_dataset("sharegpt").rows)
    except (OSError, ValueError) as error:
        return Finding("traces", Readiness.FAIL, str(error))
    return Finding("traces", Readiness.OK, f"sharegpt, {rows:,} rows")
