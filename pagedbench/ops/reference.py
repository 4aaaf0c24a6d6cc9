"""The definition of every operation in plain PyTorch; runs on any device, in any dtype.

The cache of one layer is two tensors, `key_cache` and `value_cache`: [num_slots, num_kv_heads, head_dim].
A slot is room for one token: block * block_size + offset, or the start of an extent + position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from pagedbench.ops.linear import linear
from pagedbench.ops.norms import layer_norm, rms_norm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

__all__ = [
    "contiguous_decode",
    "contiguous_prefill",
    "copy_runs",
    "layer_norm",
    "linear",
    "name",
    "padded_prefill",
    "paged_decode",
    "paged_prefill",
    "rms_norm",
    "rotate_and_write_kv",
    "write_kv",
]

name = "reference"


def write_kv(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
    """Store new tokens in their slots.

    Args:
        key, value: [num_tokens, num_kv_heads, head_dim].
        slots: int64 [num_tokens]; -1 writes nothing (padding).
    """
    kept = slots >= 0
    targets = slots[kept]
    key_cache.index_copy_(0, targets, key[kept])
    value_cache.index_copy_(0, targets, value[kept])


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
    """Turn queries and keys by their positions, in place, and store the new tokens as `write_kv` does.

    The pairs (i, i + head_dim / 2) of every head turn by the token's angles (Su et al. 2021), computed
    in float32 and rounded once. Padding is turned, too.

    Args:
        query: [num_tokens, num_heads, head_dim]; key, value: with num_kv_heads. The heads of a token are
            contiguous; tokens may be strided (views of one fused projection).
        slots: int64 [num_tokens]; -1 writes nothing (padding).
        cosine, sine: float32 [num_tokens, head_dim / 2].
    """
    for side in (query, key):
        _rotate(side, cosine[:, None], sine[:, None])
    write_kv(key, value, key_cache, value_cache, slots)


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> None:
    """In place. `cosine`, `sine`: [num_tokens, 1, head_dim / 2]."""
    halves = x.chunk(2, dim=-1)  # [num_tokens, num_heads, head_dim / 2] each, views of `x`
    first, second = (half.float() for half in halves)
    turned = (first * cosine - second * sine, second * cosine + first * sine)
    for half, result in zip(halves, turned, strict=True):
        half.copy_(result)


def copy_runs(sources: Sequence[Tensor], destinations: Sequence[Tensor], runs: Tensor) -> None:
    """Copy runs of consecutive slots, in every layer; all are read before any is written.

    Args:
        sources, destinations: caches, [num_slots, num_kv_heads, head_dim] each, pairwise: the same ones
            for copies within a pool, those of two pools (perhaps of two devices) for swaps.
        runs: int64 [num_runs, 3], on the CPU: source slot, destination slot, number of slots (at least
            1). No destination slot occurs twice.
    """
    lens = runs[:, 2]
    offsets = torch.arange(int(lens.sum())) - (lens.cumsum(0) - lens).repeat_interleave(lens)  # [num_slots]
    source_slots, destination_slots = runs[:, :2].repeat_interleave(lens, dim=0).t() + offsets
    for source, destination in zip(sources, destinations, strict=True):
        tokens = source.index_select(0, source_slots.to(source.device))
        destination.index_copy_(0, destination_slots.to(destination.device), tokens.to(destination.device))


def paged_decode(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    context_lens: Tensor,
    block_size: int,
    scale: float,
) -> Tensor:
    """Attention of one new token a sequence; its own key and value are already in the cache.

    Args:
        query: [num_sequences, num_heads, head_dim].
        block_tables: int32 [num_sequences, max_blocks]; entries beyond the context are not read.
        context_lens: int32 [num_sequences], the new token included; 0 gives zeros.
    """
    positions, valid = _positions(context_lens)
    if not positions.numel():
        return torch.zeros_like(query)
    blocks = block_tables[:, positions // block_size].long()  # [num_sequences, max_context]
    return _decode(
        query, key_cache, value_cache, blocks * block_size + positions % block_size, valid, scale
    )


def contiguous_decode(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    extent_starts: Tensor,
    context_lens: Tensor,
    scale: float,
) -> Tensor:
    """`paged_decode` for sequences whose tokens lie one after another from `extent_starts` on.

    Args:
        extent_starts: int64 [num_sequences].
    """
    positions, valid = _positions(context_lens)
    return _decode(query, key_cache, value_cache, extent_starts[:, None] + positions, valid, scale)


def _positions(context_lens: Tensor) -> tuple[Tensor, Tensor]:
    """Positions 0 to the longest context, and which of them each sequence has."""
    longest = int(context_lens.max()) if context_lens.numel() else 0
    positions = torch.arange(longest, device=context_lens.device)  # [max_context]
    return positions, positions < context_lens[:, None]  # [num_sequences, max_context]


def _decode(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor, valid: Tensor, scale: float
) -> Tensor:
    """Gather and masked attention, in float32 at least. `slots`, `valid`: [num_sequences, max_context]."""
    wide = torch.promote_types(query.dtype, torch.float32)
    slots = slots.masked_fill(~valid, 0)
    absent = ~valid[:, :, None, None]
    # A slot that was never written may hold NaN, which no weight of zero would silence.
    key = key_cache[slots].to(wide).masked_fill_(absent, 0.0)  # [n, max_context, num_kv_heads, head_dim]
    value = value_cache[slots].to(wide).masked_fill_(absent, 0.0)
    out = _attention(query[:, None].to(wide), key, value, valid[:, None, None, :], scale)
    return out[:, 0].masked_fill(~valid.any(-1)[:, None, None], 0.0).to(query.dtype)


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
    """Causal attention of the newest tokens of several sequences; keys and values are read from the cache.

    Args:
        query: [num_tokens, num_heads, head_dim], the sequences' rows one after another.
        query_starts: int32 [num_sequences + 1]; rows query_starts[i] to query_starts[i + 1] - 1 are the
            last positions of sequence i, so a sequence whose beginning is cached already needs no more.
        context_lens: int32 [num_sequences], the rows of `query` included.
    """

    def slots_of(sequence: int, context_len: int) -> Tensor:
        positions = torch.arange(context_len, device=query.device)
        return block_tables[sequence, positions // block_size].long() * block_size + positions % block_size

    def read(sequence: int, context_len: int) -> tuple[Tensor, Tensor]:
        slots = slots_of(sequence, context_len)
        return key_cache.index_select(0, slots), value_cache.index_select(0, slots)

    return _prefill(query, query_starts, context_lens, scale, read)


def contiguous_prefill(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    extent_starts: Tensor,
    query_starts: Tensor,
    context_lens: Tensor,
    scale: float,
) -> Tensor:
    """`paged_prefill` for sequences whose tokens lie one after another from `extent_starts` on."""
    starts = extent_starts.tolist()

    def read(sequence: int, context_len: int) -> tuple[Tensor, Tensor]:
        extent = slice(starts[sequence], starts[sequence] + context_len)
        return key_cache[extent], value_cache[extent]

    return _prefill(query, query_starts, context_lens, scale, read)


def _prefill(
    query: Tensor,
    query_starts: Tensor,
    context_lens: Tensor,
    scale: float,
    read: Callable[[int, int], tuple[Tensor, Tensor]],
) -> Tensor:
    """One attention a sequence. `read(sequence, context_len)` gives its keys and values, in order."""
    out = torch.empty_like(query)
    starts, context = query_starts.tolist(), context_lens.tolist()
    for i, context_len in enumerate(context):
        rows = slice(starts[i], starts[i + 1])
        num_rows = starts[i + 1] - starts[i]
        if num_rows == 0:
            continue
        key, value = read(i, context_len)  # [context_len, num_kv_heads, head_dim]
        mask = None if num_rows == context_len else _causal_mask(num_rows, context_len, query.device)
        out[rows] = _attention(query[rows][None], key[None], value[None], mask, scale)[0]
    return out


def _causal_mask(num_rows: int, context_len: int, device: torch.device) -> Tensor:
    """Which positions the last `num_rows` of a context see.  # [num_rows, context_len]"""
    seen = torch.ones(num_rows, context_len, dtype=torch.bool, device=device)
    return seen.tril(context_len - num_rows)


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Causal, or by `mask`, over [batch, length, heads, head_dim]."""
    group_size = query.shape[2] // key.shape[2]
    if group_size > 1:
        key, value = (side.repeat_interleave(group_size, dim=2) for side in (key, value))
    query, key, value = (side.transpose(1, 2) for side in (query, key, value))
    out = F.scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None, scale=scale)
    return out.transpose(1, 2)


def padded_prefill(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scale: float) -> Tensor:
    """Causal attention over a dense batch, padded on the left (request-level batches).

    Args:
        query: [num_sequences, padded_len, num_heads, head_dim]; key and value with num_kv_heads.
            Their padding must be finite.
        lengths: int [num_sequences], without padding. Rows of padding give finite values without meaning.
    """
    padded_len = query.shape[1]
    columns = torch.arange(padded_len, device=query.device)
    real = columns >= padded_len - lengths[:, None]  # [num_sequences, padded_len]
    causal = columns <= columns[:, None]  # [padded_len, padded_len]
    itself = columns == columns[:, None]  # a row of padding sees itself: a softmax over nothing is NaN
    mask = (causal & real[:, None, :]) | itself  # [num_sequences, padded_len, padded_len]
    return _attention(query, key, value, mask[:, None], scale)
