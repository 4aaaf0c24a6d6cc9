"""The operations by the C++ kernels on CPU tensors; those without a kernel are the reference's."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import torch

from pagedbench.ops.reference import contiguous_prefill, copy_slots, padded_prefill, paged_prefill

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "contiguous_decode",
    "contiguous_prefill",
    "copy_slots",
    "name",
    "padded_prefill",
    "paged_decode",
    "paged_prefill",
    "write_kv",
]

name = "native"
SUPPORTED_DTYPES = (torch.float32, torch.bfloat16)

# After torch, so that both share the OpenMP runtime that torch brings, and its pool of threads.
_cpu = importlib.import_module("pagedbench.kernels._cpu")


def write_kv(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
    """As `reference.write_kv`. The heads of a token must be contiguous; tokens may be strided.

    Raises:
        ValueError, TypeError: a shape, slot or dtype does not fit.
    """
    _cpu.write_kv(key, value, key_cache, value_cache, slots, torch.get_num_threads())


def paged_decode(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    context_lens: Tensor,
    block_size: int,
    scale: float,
) -> Tensor:
    """As `reference.paged_decode`. Query and cache have one dtype; sums are in float32.

    Raises:
        ValueError, TypeError: a shape, block or dtype does not fit.
    """
    out = torch.empty(query.shape, dtype=query.dtype)  # [num_sequences, num_heads, head_dim]
    threads = torch.get_num_threads()
    _cpu.paged_decode(
        out, query, key_cache, value_cache, block_tables, context_lens, block_size, scale, threads
    )
    return out


def contiguous_decode(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    extent_starts: Tensor,
    context_lens: Tensor,
    scale: float,
) -> Tensor:
    """As `reference.contiguous_decode`; equals `paged_decode` bit for bit.

    Raises:
        ValueError, TypeError: a shape, extent or dtype does not fit.
    """
    out = torch.empty(query.shape, dtype=query.dtype)  # [num_sequences, num_heads, head_dim]
    threads = torch.get_num_threads()
    _cpu.contiguous_decode(out, query, key_cache, value_cache, extent_starts, context_lens, scale, threads)
    return out
