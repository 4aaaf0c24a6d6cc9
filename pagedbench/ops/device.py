"""Which device and kernels a run gets, and what they are called."""

from __future__ import annotations

import platform

import torch

from pagedbench.config import ConfigError
from pagedbench.ops.cpu_info import cpu_fact
from pagedbench.ops.select import select_ops
from pagedbench.simulation.cards import unknown_device

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,  # of keys and values only
}


def dtype_of(name: str) -> torch.dtype:
    """The torch dtype of a name in `DTYPES`."""
    return DTYPES[name]


def find_device(name: str) -> str:
    """ "cpu" or "cuda", from those or "auto".

    Raises:
        ConfigError: the device is unknown, or not on this machine.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise unknown_device(name)
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda needs a CUDA GPU and a CUDA build of torch, and one of them is missing"
        )
    return name


def default_dtype(device: str) -> str:
    """The dtype that "auto" stands for: bfloat16 where the device computes in it, else float32."""
    if device == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return "bfloat16"
    return "float32"


def find_kernels(device: str, kernels: str, dtype: str) -> str:
    """The name of the kernels that will run.

    Raises:
        ConfigError: those asked for cannot run here.
    """
    try:
        return select_ops(device, kernels, DTYPES[dtype]).name
    except ValueError as error:
        raise ConfigError(str(error)) from error


def describe_device(device: str, ranks: str | None = None) -> str:
    """The processor's or GPU's name and the ranks or, for a CPU, the number of threads."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
        return name if ranks is None else f"{name}, {ranks}"
    name = cpu_fact("model name") or platform.processor() or platform.machine()
    return f"{name}, {ranks or f'{torch.get_num_threads()} threads'}"
