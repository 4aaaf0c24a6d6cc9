"""Decode attention, over block tables or extents, with long contexts split over several programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from pagedbench.kernels.triton.arithmetic import narrow
from pagedbench.kernels.triton.attend import (
    fold,
    nothing_folded,
    operands_of,
    scales_of,
    scales_seen,
    slots_of,
)
from pagedbench.kernels.triton.combine import combine
from pagedbench.kernels.triton.tiles import MIN_DOT, head_pad_of, tile_of

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.addresses import Addresses

MIN_SPLIT_TILES = 4
"""A shorter piece of a context is not worth a separate program."""
MAX_SPLITS = 32
PROGRAMS_PER_PROCESSOR = 8
"""As many as an SM's shared memory holds, of heads of 64. Each has one tile on its way at a time."""


@triton.jit(
    do_not_specialize=["addresses_stride", "num_splits"],
    do_not_specialize_on_alignment=["addresses", "first_positions", "context_lens"],
)
def _decode_kernel(
    out: tl.tensor,  # [num_sequences, num_heads, num_splits, head_dim]
    log_totals: tl.tensor,  # float32 [num_sequences, num_heads, num_splits]; written if `is_split`
    query: tl.tensor,  # [num_sequences, num_heads, head_dim]
    key_cache: tl.tensor,  # [num_slots, num_kv_heads, row_len]
    value_cache: tl.tensor,
    key_scales: tl.tensor | None,  # see `fold`
    value_scales: tl.tensor | None,
    addresses: tl.tensor,  # see `slots_of`
    first_positions: tl.tensor | None,  # int32 [num_sequences]
    context_lens: tl.tensor,  # int32 [num_sequences]
    scale: tl.tensor,
    softcap: tl.tensor | None,
    sink_logits: tl.tensor | None,  # float32 [num_heads]
    window: tl.tensor | None,
    sinks: tl.tensor,
    query_stride: tl.tensor,
    key_stride: tl.tensor,
    value_stride: tl.tensor,
    addresses_stride: tl.tensor,
    num_splits: tl.tensor,
    block_size: tl.constexpr,
    group_size: tl.constexpr,
    group_pad: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    row_len: tl.constexpr,
    tile: tl.constexpr,
    min_split_tiles: tl.constexpr,
    is_split: tl.constexpr,
) -> None:
    """A program is one sequence, one KV head with all its query heads, and one piece of the context."""
    sequence, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    num_heads = tl.num_programs(1) * group_size
    num_seen, gap = tl.load(context_lens + sequence), None
    if window is not None:
        gap = tl.maximum(num_seen - window - sinks, 0)
        num_seen -= gap
    split_tiles = tl.maximum(tl.cdiv(tl.cdiv(num_seen, tile), num_splits), min_split_tiles)
    first = split * split_tiles * tile
    last = tl.minimum(first + split_tiles * tile, num_seen)

    members, lanes = tl.arange(0, group_pad), tl.arange(0, head_pad)
    heads = kv_head * group_size + members
    is_real = (members[:, None] < group_size) & (lanes[None, :] < head_dim)  # [group_pad, head_pad]
    rows = query + sequence.to(tl.int64) * query_stride + heads[:, None] * head_dim
    queries = tl.load(rows + lanes[None, :], mask=is_real, other=0.0)

    caches, strides = (key_cache, value_cache), (key_stride, value_stride)
    peak, total, sums = nothing_folded(sink_logits, heads, members < group_size, head_pad)
    if sink_logits is not None and is_split:  # it counts in one piece only
        peak = tl.where(split == 0, peak, float("-inf"))
        total = tl.where(split == 0, total, 0.0)
    # A third stage would fetch tables ahead, but no more keys: paged decodes only became slower.
    for start in tl.range(first, last, tile, num_stages=2):
        tokens = start + tl.arange(0, tile)  # numbered without the gap
        is_read = tokens < last
        slots = slots_of(
            addresses, addresses_stride, first_positions, sequence, tokens, last, gap, sinks, block_size
        )
        peak, total, sums = fold(
            queries,
            caches,
            key_scales,
            value_scales,
            strides,
            slots,
            is_read,
            kv_head,
            is_read[None, :],
            scale,
            softcap,
            peak,
            total,
            sums,
            head_dim,
            row_len,
            use_dot=group_pad > 1,
        )

    pieces = (sequence.to(tl.int64) * num_heads + heads) * num_splits + split  # [group_pad]
    divisor = tl.where(total == 0.0, 1.0, total)  # an empty piece gives zeros
    result = sums / divisor[:, None]
    result = narrow(result, out.dtype.element_ty)
    tl.store(out + pieces[:, None] * head_dim + lanes[None, :], result, mask=is_real)
    if is_split:
        log_total = tl.where(total == 0.0, float("-inf"), peak + tl.log2(divisor))
        tl.store(log_totals + pieces, log_total, mask=members < group_size)


def decode(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    addresses: Addresses,
    context_lens: Tensor,
    scale: float,
    window: int | None,
    sinks: int,
    softcap: float | None,
    sink_logits: Tensor | None,
    num_splits: int,
) -> Tensor:
    """See `Ops.attend_decode`. No launch depends on a value on the device.

    Args:
        num_splits: programs that share a context, see `choose_num_splits`.
    """
    num_sequences, num_heads, head_dim = query.shape
    num_kv_heads = key_cache.shape[1]
    group_size = num_heads // num_kv_heads
    out = torch.empty((num_sequences, num_heads, head_dim), dtype=query.dtype, device=query.device)
    if not out.numel():
        return out
    pieces, log_totals = out, out
    if num_splits > 1:
        log_totals = query.new_empty((num_sequences, num_heads, num_splits), dtype=torch.float32)
        pieces = log_totals.new_empty((*log_totals.shape, head_dim))
    operand, block_size, first_positions = operands_of(addresses)
    _decode_kernel[(num_sequences, num_kv_heads, num_splits)](
        pieces,
        log_totals,
        query,
        key_cache,
        value_cache,
        *scales_seen((key_cache, value_cache)),
        operand,
        first_positions,
        context_lens,
        *scales_of(scale, softcap),
        sink_logits,
        window,
        sinks,
        *(side.stride(0) for side in (query, key_cache, value_cache, operand)),
        num_splits,
        block_size=block_size,
        group_size=group_size,
        group_pad=_group_pad(group_size, query),
        head_dim=head_dim,
        head_pad=head_pad_of(query),
        row_len=key_cache.shape[2],
        tile=tile_of(query),
        min_split_tiles=MIN_SPLIT_TILES,
        is_split=num_splits > 1,
        num_warps=2 if query.element_size() == 2 else 4,
        enable_fp_fusion=True,
    )
    if num_splits > 1:
        combine(out, pieces, log_totals, MAX_SPLITS)
    return out


def _group_pad(group_size: int, query: Tensor) -> int:
    """Rows of a program: query heads, padded for tensor cores, which are faster than the memory anyway.

    float32 has no tensor cores, so a single head is not padded.
    """
    if group_size == 1 and query.element_size() > 2:
        return 1
    return max(triton.next_power_of_2(group_size), MIN_DOT)


def choose_num_splits(num_programs: int, max_tiles: int, num_processors: int) -> int:
    """Programs that share a context: a power of two.

    Args:
        num_programs: sequences times KV heads, the number of programs without splitting.
        max_tiles: tiles of the longest context that the metadata have room for, without gaps.
        num_processors: SMs of the GPU.
    """
    wanted = PROGRAMS_PER_PROCESSOR * num_processors // max(num_programs, 1)
    num_splits = min(wanted, max_tiles // MIN_SPLIT_TILES, MAX_SPLITS)
    return triton.next_power_of_2(num_splits + 1) // 2 if num_splits > 1 else 1
