"""Which backend computes the operations: the fastest that this install, device and dtype allow."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from torch import Tensor

KERNELS = ("auto", "native", "reference")


class Ops(Protocol):
    """A backend's operations; `pagedbench.ops.reference` defines what each of them means."""

    name: str

    def write_kv(
        self, key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor
    ) -> None: ...

    def copy_slots(self, caches: Iterable[Tensor], sources: Tensor, destinations: Tensor) -> None: ...

    def paged_decode(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        block_tables: Tensor,
        context_lens: Tensor,
        block_size: int,
        scale: float,
    ) -> Tensor: ...

    def contiguous_decode(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        extent_starts: Tensor,
        context_lens: Tensor,
        scale: float,
    ) -> Tensor: ...

    def paged_prefill(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        block_tables: Tensor,
        query_starts: Tensor,
        context_lens: Tensor,
        block_size: int,
        scale: float,
    ) -> Tensor: ...

    def contiguous_prefill(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        extent_starts: Tensor,
        query_starts: Tensor,
        context_lens: Tensor,
        scale: float,
    ) -> Tensor: ...

    def padded_prefill(
        self, query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scale: float
    ) -> Tensor: ...


def select_ops(device_type: str, kernels: str = "auto", dtype: torch.dtype | None = None) -> Ops:
    """The backend for a device ("cpu", "cuda") and, if given, the dtype of cache and queries.

    Args:
        kernels: "native", "reference", or "auto" for native where it can be had.

    Raises:
        ValueError: the kernels are unknown, or asked for by name where they cannot run.
    """
    if kernels not in KERNELS:
        raise ValueError(f"unknown kernels {kernels!r}: choose one of {', '.join(KERNELS)}")
    if kernels != "reference":
        obstacle = _native_obstacle(device_type, dtype)
        if obstacle is None:
            return _backend("native")
        if kernels == "native":
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
            "the native kernels were not built: install a C++17 compiler and reinstall pagedbench, or "
            "ask for --kernels reference"
        )
    if dtype is not None and dtype not in native.SUPPORTED_DTYPES:
        return (
            f"the native kernels store float32 or bfloat16, not {str(dtype).removeprefix('torch.')}: "
            "choose one of these, or ask for --kernels reference"
        )
    return None
