"""The operations by the C++ kernels on CPU tensors."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import torch

from pagedbench.ops import reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pagedbench.ops.select import Linear

name = "native"
SUPPORTED_DTYPES = (torch.float32, torch.bfloat16)

# After torch, so that both share the OpenMP runtime that torch brings, and its pool of threads.
_cpu = importlib.import_module("pagedbench.kernels._cpu")

instruction_set: str = _cpu.instruction_set()


class NativeLinear:
    """A weight in panels, for products whose weight streams from memory beside the arithmetic."""

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str) -> None:
        self._packed = _cpu.Linear(weight, bias, activation, torch.get_num_threads())
        self.out_features: int = self._packed.out_features

    def __call__(self, x: Tensor) -> Tensor:
        out = torch.empty((x.shape[0], self.out_features), dtype=x.dtype)  # [num_tokens, out_features]
        self._packed.product(x, out, torch.get_num_threads())
        return out

    def argmax(self, x: Tensor) -> Tensor:
        """Without ever holding the outputs: each is rounded as the product would hold it, and compared."""
        out = torch.empty(x.shape[0], dtype=torch.int64)  # [num_tokens]
        self._packed.argmax(x, out, torch.get_num_threads())
        return out


def linear(weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Linear:
    """As `reference.linear`, in panels wherever that is the faster product.

    Torch's own is for processors whose matrix unit (AMX) it knows how to use, for those without wide
    vectors, and for shapes that have no panels.
    """
    is_wide = instruction_set != "portable"
    has_matrix_unit = weight.dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported()
    has_panels = weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and weight.shape[1] % 2 == 0
    )
    if is_wide and has_panels and not has_matrix_unit:
        return NativeLinear(weight, bias, activation)
    return reference.linear(weight, bias, activation)


def write_kv(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
    """As `reference.write_kv`. The heads of a token must be contiguous; tokens may be strided.

    Raises:
        ValueError, TypeError: a shape, slot or dtype does not fit.
    """
    _cpu.write_kv(key, value, key_cache, value_cache, slots, torch.get_num_threads())


def rotate_and_write_kv(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slots: Tensor,
    cosine: Tensor,
    sine: Tensor,
) -> None:
    """As `reference.rotate_and_write_kv`, in one pass over the tokens.

    Raises:
        ValueError, TypeError: a shape, slot or dtype does not fit.
    """
    threads = torch.get_num_threads()
    _cpu.rotate_and_write_kv(query, key, value, key_cache, value_cache, slots, cosine, sine, threads)


def copy_runs(sources: Sequence[Tensor], destinations: Sequence[Tensor], runs: Tensor) -> None:
    """As `reference.copy_runs`; runs that write what others read go through a copy.

    Raises:
        ValueError, TypeError: a shape, slot or dtype does not fit.
    """
    _cpu.copy_runs(list(sources), list(destinations), runs, torch.get_num_threads())


def layer_norm(
    hidden: Tensor, delta: Tensor | None, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    """As `reference.layer_norm`, in one pass over each token.

    Raises:
        ValueError, TypeError: a shape or dtype does not fit.
    """
    out = torch.empty_like(hidden)  # [num_tokens, size]
    _cpu.norm(out, hidden, delta, weight, bias, epsilon, True, torch.get_num_threads())
    return out


def rms_norm(hidden: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    """As `reference.rms_norm`, in one pass over each token.

    Raises:
        ValueError, TypeError: a shape or dtype does not fit.
    """
    out = torch.empty_like(hidden)  # [num_tokens, size]
    _cpu.norm(out, hidden, delta, weight, None, epsilon, False, torch.get_num_threads())
    return out


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
    _cpu.decode(out, query, key_cache, value_cache, block_tables, context_lens, block_size, scale, threads)
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
    _cpu.decode(out, query, key_cache, value_cache, extent_starts, context_lens, None, scale, threads)
    return out


def paged_prefill(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    query_starts: Tensor,
    context_lens: Tensor,
    block_size: int,
    scale: float,
) -> Tensor:
    """As `reference.paged_prefill`, tile by tile. Query and cache have one dtype; sums are in float32.

    Raises:
        ValueError, TypeError: a shape, block or dtype does not fit.
    """
    cache = (key_cache, value_cache)
    return _prefill(query, *cache, block_tables, query_starts, context_lens, block_size, scale)


def contiguous_prefill(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    extent_starts: Tensor,
    query_starts: Tensor,
    context_lens: Tensor,
    scale: float,
) -> Tensor:
    """As `reference.contiguous_prefill`; equals `paged_prefill` bit for bit.

    Raises:
        ValueError, TypeError: a shape, extent or dtype does not fit.
    """
    return _prefill(query, key_cache, value_cache, extent_starts, query_starts, context_lens, None, scale)


def _prefill(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    where: Tensor,
    query_starts: Tensor,
    context_lens: Tensor,
    block_size: int | None,
    scale: float,
) -> Tensor:
    """`where`: block tables, or where extents start if there is no block size."""
    out = torch.empty(query.shape, dtype=query.dtype)  # [num_tokens, num_heads, head_dim]
    _cpu.prefill(
        out,
        query,
        key_cache,
        value_cache,
        where,
        query_starts[:-1],
        query_starts[1:],
        context_lens,
        block_size,
        scale,
        torch.get_num_threads(),
    )
    return out


def padded_prefill(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scale: float) -> Tensor:
    """As `reference.padded_prefill`; rows of padding give zeros.

    Raises:
        ValueError, TypeError: a shape or dtype does not fit.
    """
    num_sequences, padded_len = query.shape[:2]
    out = torch.zeros(query.shape, dtype=query.dtype)  # [num_sequences, padded_len, num_heads, head_dim]
    ends = (torch.arange(num_sequences, dtype=torch.int32) + 1) * padded_len
    starts = ends - lengths.to(torch.int32)
    _cpu.prefill(
        out.flatten(0, 1),
        query.flatten(0, 1),
        key.flatten(0, 1),
        value.flatten(0, 1),
        starts.long(),
        starts,
        ends,
        lengths.to(torch.int32),
        None,
        scale,
        torch.get_num_threads(),
    )
    return out
