"""Prompt attention over block tables or extents: causal, ragged, without a matrix of scores."""

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
    rows_at,
    scales_of,
    scales_seen,
    slots_of,
)
from pagedbench.kernels.triton.tiles import head_pad_of, rows_of, tile_of

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.addresses import Addresses


@triton.jit
def _owner_of(
    row_tile: tl.tensor, query_starts: tl.tensor, num_sequences: tl.tensor, num_rows: tl.constexpr
) -> tl.tensor:
    """The sequence that a tile of rows belongs to.

    Sequence i owns the tiles from query_starts[i] // num_rows + i on: these suffice for its rows, wherever
    they begin, and do not depend on the number of tiles of earlier sequences.
    """
    low = tl.zeros((), dtype=tl.int32)
    high = low + num_sequences
    while high - low > 1:
        middle = (low + high) // 2
        is_before = tl.load(query_starts + middle) // num_rows + middle <= row_tile
        low = tl.where(is_before, middle, low)
        high = tl.where(is_before, high, middle)
    return low


@triton.jit(
    do_not_specialize=["num_sequences", "addresses_stride"],
    do_not_specialize_on_alignment=["addresses", "first_positions", "query_starts", "context_lens"],
)
def _prefill_kernel(
    out: tl.tensor,  # [num_tokens, num_heads, head_dim]
    query: tl.tensor,  # [num_tokens, num_heads, head_dim]
    key_cache: tl.tensor,  # [num_slots, num_kv_heads, row_len]
    value_cache: tl.tensor,
    key_scales: tl.tensor | None,  # see `fold`
    value_scales: tl.tensor | None,
    addresses: tl.tensor,  # see `slots_of`
    first_positions: tl.tensor | None,  # int32 [num_sequences]
    query_starts: tl.tensor,  # int32 [num_sequences + 1]
    context_lens: tl.tensor,  # int32 [num_sequences]
    num_sequences: tl.tensor,
    scale: tl.tensor,
    softcap: tl.tensor | None,
    sink_logits: tl.tensor | None,  # float32 [num_heads]
    window: tl.tensor | None,
    sinks: tl.tensor,
    query_stride: tl.tensor,
    key_stride: tl.tensor,
    value_stride: tl.tensor,
    addresses_stride: tl.tensor,
    block_size: tl.constexpr,
    group_size: tl.constexpr,
    group_pad: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    row_len: tl.constexpr,
    tile: tl.constexpr,
    num_rows: tl.constexpr,
) -> None:
    """A program is `num_rows` tokens of one sequence, with all query heads of one KV head."""
    row_tile, kv_head = tl.program_id(0), tl.program_id(1)
    sequence = _owner_of(row_tile, query_starts, num_sequences, num_rows)
    begin, end = tl.load(query_starts + sequence), tl.load(query_starts + sequence + 1)
    first_token = begin + (row_tile - (begin // num_rows + sequence)) * num_rows
    if first_token >= end:
        return
    shift, gap = tl.load(context_lens + sequence) - end, None  # from a query's index to its position
    if window is not None:
        gap = tl.maximum(shift + first_token + 1 - window - sinks, 0)
        shift -= gap  # positions are counted without the gap, to which no row attends

    rows, lanes = tl.arange(0, num_rows * group_pad), tl.arange(0, head_pad)
    tokens, members = first_token + rows // group_pad, rows % group_pad
    heads = kv_head * group_size + members
    is_row = (tokens < end) & (members < group_size)
    is_real = is_row[:, None] & (lanes[None, :] < head_dim)  # [rows, head_pad]
    queries = rows_at(query, query_stride, tokens, heads, head_dim)
    queries = tl.load(queries + lanes[None, :], mask=is_real, other=0.0)

    caches, strides = (key_cache, value_cache), (key_stride, value_stride)
    peak, total, sums = nothing_folded(sink_logits, heads, is_row, head_pad)
    last = shift + tl.minimum(first_token + num_rows, end)
    all_see = 0  # up to here no row needs a mask
    if window is None:
        all_see = (shift + first_token + 1) // tile * tile
    positions = shift + tokens[:, None]  # [rows, 1]; rows beyond `end` are not stored
    for is_masked in tl.static_range(2):
        for start in tl.range(all_see if is_masked else 0, last if is_masked else all_see, tile):
            seen = start + tl.arange(0, tile)
            slots = slots_of(
                addresses, addresses_stride, first_positions, sequence, seen, last, gap, sinks, block_size
            )
            is_seen = None
            if is_masked:
                is_seen = seen[None, :] <= positions  # [rows, tile]
                if window is not None:
                    is_seen &= (seen[None, :] > positions - window) | (seen[None, :] < sinks)
            peak, total, sums = fold(
                queries,
                caches,
                key_scales,
                value_scales,
                strides,
                slots,
                seen < last,
                kv_head,
                is_seen,
                scale,
                softcap,
                peak,
                total,
                sums,
                head_dim,
                row_len,
                use_dot=True,
                may_see_nothing=window is not None,
            )

    result = narrow(sums / total[:, None], out.dtype.element_ty)
    out_stride = tl.num_programs(1) * group_size * head_dim
    tl.store(rows_at(out, out_stride, tokens, heads, head_dim) + lanes[None, :], result, mask=is_real)


def attend_prefill(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    addresses: Addresses,
    query_starts: Tensor,
    context_lens: Tensor,
    scale: float,
    window: int | None = None,
    sinks: int = 0,
    softcap: float | None = None,
    sink_logits: Tensor | None = None,
) -> Tensor:
    """See `Ops.attend_prefill`. No launch depends on a value on the device."""
    num_tokens, num_heads, head_dim = query.shape
    num_sequences, num_kv_heads = len(context_lens), key_cache.shape[1]
    out = torch.empty((num_tokens, num_heads, head_dim), dtype=query.dtype, device=query.device)
    if not out.numel():
        return out
    group_size = num_heads // num_kv_heads
    group_pad = triton.next_power_of_2(group_size)
    num_rows = max(rows_of(query) // group_pad, 1)
    operand, block_size, first_positions = operands_of(addresses)
    # The most tiles of rows that there can be, see `_owner_of`; those after a sequence's rows end at once.
    _prefill_kernel[(num_tokens // num_rows + num_sequences, num_kv_heads)](
        out,
        query,
        key_cache,
        value_cache,
        *scales_seen((key_cache, value_cache)),
        operand,
        first_positions,
        query_starts,
        context_lens,
        num_sequences,
        *scales_of(scale, softcap),
        sink_logits,
        window,
        sinks,
        *(side.stride(0) for side in (query, key_cache, value_cache, operand)),
        block_size=block_size,
        group_size=group_size,
        group_pad=group_pad,
        head_dim=head_dim,
        head_pad=head_pad_of(query),
        row_len=key_cache.shape[2],
        tile=tile_of(query),
        num_rows=num_rows,
        num_warps=8,
        num_stages=2,
        enable_fp_fusion=True,
    )
    return out
