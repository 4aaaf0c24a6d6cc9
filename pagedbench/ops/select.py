"""Which backend computes the operations: the fastest that this install, device and dtype allow."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import torch

    from pagedbench.ops.interface import Ops

KERNELS = ("auto", "native", "triton", "reference")
FASTEST = {"cpu": "native", "cuda": "triton"}
"""The kernels that "auto" prefers, by device."""


def select_ops(device_type: str, kernels: str = "auto", dtype: torch.dtype | None = None) -> Ops:
    """The backend for a device ("cpu", "cuda") and, if given, the dtype of cache and queries.

    Args:
        kernels: "native" (CPU), "triton" (CUDA), "reference", or "auto" for the fastest available.

    Raises:
        ValueError: the kernels are unknown, or asked for by name where they cannot run.
    """
    if kernels not in KERNELS:
        raise ValueError(f"unknown kernels {kernels!r}: choose one of {', '.join(KERNELS)}")
    wanted = FASTEST.get(device_type, "reference") if kernels == "auto" else kernels
    obstacles = {"native": _native_obstacle, "triton": _triton_obstacle}
    if wanted in obstacles:
        obstacle = obstacles[wanted](device_type, dtype)
        if obstacle is None:
            return _backend(wanted)
        if kernels != "auto":
            raise ValueError(obstacle)
    return _backend("reference")


def _backend(name: str) -> Ops:
    return cast("Ops", importlib.import_module(f"pagedbench.ops.{name}"))


def _native_obstacle(device_type: str, dtype: torch.dtype | None) -> str | None:
    """Why the native kernels cannot run, and what to do about it; None if they can."""
    if device_type != "cpu":
        return f"the native kernels run on the CPU, not on {device_type}: ask for --kernels reference"
    try:
        native = importlib.import_module("pagedbench.ops.native")
    except ImportError:
        return (
            "the native kernels were not built: install GCC or Clang, then pagedbench again (in its "
            f"folder: {sys.executable} -m pip install --editable .); or ask for --kernels reference"
        )
    if dtype is not None and dtype not in native.SUPPORTED_DTYPES:
        return (
            f"the native kernels store float32 or bfloat16, not {str(dtype).removeprefix('torch.')}: "
            "choose one of these, or ask for --kernels reference"
        )
    return None


def _triton_obstacle(device_type: str, dtype: torch.dtype | None) -> str | None:
    """Why the Triton kernels cannot run; None if they can (on a CPU in Triton's interpreter, for tests)."""
    if device_type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the Triton kernels run on a CUDA GPU, not on the {device_type}: ask for --kernels auto"
    try:
        triton = importlib.import_module("pagedbench.ops.triton")
    except ImportError:
        return (
            f"the Triton kernels need triton: {sys.executable} -m pip install triton; or ask for "
            "--kernels reference"
        )
    if dtype is not None and dtype not in triton.SUPPORTED_DTYPES:
        return (
            "the Triton kernels store float32, bfloat16 or float16, not "
            f"{str(dtype).removeprefix('torch.')}: choose one of these, or ask for --kernels reference"
        )
    return None
