"""The definition of every operation of `interface.Ops`, in plain PyTorch: any device, any dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from pagedbench.ops.linear import linear
from pagedbench.ops.quantized import dequantized, quantized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pagedbench.ops.addresses import Addresses
    from pagedbench.ops.fused import FusedLayers, LayerWeights

__all__ = [
    "attend_decode",
    "attend_prefill",
    "copy_runs",
    "fuse",
    "layer_norm",
    "linear",
    "name",
    "padded_prefill",
    "rms_norm",
    "rotate_and_write_kv",
    "write_kv",
]

name = "reference"


def write_kv(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
    """See `Ops.write_kv`."""
    kept = slots >= 0
    targets = slots[kept]
    for side, cache in ((key, key_cache), (value, value_cache)):
        rows = side[kept]  # [num_written, num_kv_heads, head_dim]
        cache.index_copy_(0, targets, quantized(rows) if cache.dtype == torch.int8 else rows)


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
    """See `Ops.rotate_and_write_kv`."""
    for side in (query, key):
        _rotate(side, cosine[:, None], sine[:, None])
    write_kv(key, value, key_cache, value_cache, slots)


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> None:
    """Rotate `x` in place. `cosine`, `sine`: [num_tokens, 1, head_dim / 2]."""
    halves = x.chunk(2, dim=-1)  # [num_tokens, num_heads, head_dim / 2] each, views of `x`
    first, second = (half.float() for half in halves)
    turned = (first * cosine - second * sine, second * cosine + first * sine)
    for half, result in zip(halves, turned, strict=True):
        half.copy_(result)


def copy_runs(sources: Sequence[Tensor], destinations: Sequence[Tensor], runs: Tensor) -> None:
    """See `Ops.copy_runs`."""
    lens = runs[:, 2]
    offsets = torch.arange(int(lens.sum())) - (lens.cumsum(0) - lens).repeat_interleave(lens)  # [num_slots]
    source_slots, destination_slots = runs[:, :2].repeat_interleave(lens, dim=0).t() + offsets
    for source, destination in zip(sources, destinations, strict=True):
        tokens = source.index_select(0, source_slots.to(source.device))
        destination.index_copy_(0, destination_slots.to(destination.device), tokens.to(destination.device))


def layer_norm(
    hidden: Tensor, delta: Tensor | None, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    """See `Ops.layer_norm`."""
    if delta is not None:
        hidden += delta
    return F.layer_norm(hidden, hidden.shape[-1:], weight, bias, epsilon)


def rms_norm(hidden: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    """See `Ops.rms_norm`."""
    if delta is not None:
        hidden += delta
    wide = hidden.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(hidden.dtype)  # [num_tokens, size]


def fuse(layers: Sequence[LayerWeights]) -> FusedLayers | None:
    """See `Ops.fuse`: nothing."""
    return None


def attend_decode(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    addresses: Addresses,
    context_lens: Tensor,
    scale: float,
    window: int | None = None,
    sinks: int = 0,
    softcap: float | None = None,
    sink_logits: Tensor | None = None,
) -> Tensor:
    """See `Ops.attend_decode`. Gather and masked attention, in float32 at least."""
    positions = torch.arange(_longest(context_lens), device=query.device)  # [max_context]
    if not positions.numel():
        return torch.zeros_like(query)
    is_seen = _is_seen(context_lens[:, None] - 1, positions, window, sinks)  # [num_sequences, max_context]
    slots = addresses.slots(positions, sinks).masked_fill(~is_seen, 0)  # [num_sequences, max_context]
    wide = torch.promote_types(query.dtype, torch.float32)
    unseen = ~is_seen[:, :, None, None]
    # A slot that was never written may hold NaN, which stays NaN with a weight of zero.
    # [num_sequences, max_context, num_kv_heads, head_dim]
    key, value = (
        dequantized(cache[slots]).to(wide).masked_fill_(unseen, 0.0) for cache in (key_cache, value_cache)
    )
    out = _attention(
        query[:, None].to(wide), key, value, is_seen[:, None, None, :], scale, softcap, sink_logits
    )
    return out[:, 0].masked_fill(~is_seen.any(-1)[:, None, None], 0.0).to(query.dtype)


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
    """See `Ops.attend_prefill`. Computes one attention per sequence."""
    out = torch.empty_like(query)
    positions = torch.arange(_longest(context_lens), device=query.device)  # [max_context]
    slots = addresses.slots(positions, sinks)  # [num_sequences, max_context]
    starts = query_starts.tolist()
    for i, context_len in enumerate(context_lens.tolist()):
        rows = slice(starts[i], starts[i + 1])
        first = context_len - (starts[i + 1] - starts[i])  # the position of the first row
        if first == context_len:
            continue
        past, mask = slots[i, :context_len], None
        if first > 0 or window is not None:
            asking = positions[first:context_len, None]  # [num_rows, 1]
            mask = _is_seen(asking, positions[:context_len], window, sinks)  # [num_rows, context_len]
            past, mask = past[mask.any(0)], mask[:, mask.any(0)]  # unseen tokens may have any slot
        key, value = (dequantized(cache.index_select(0, past)) for cache in (key_cache, value_cache))
        sides = (query[rows][None].to(key.dtype), key[None], value[None])
        out[rows] = _attention(*sides, mask, scale, softcap, sink_logits)[0]
    return out


def _longest(context_lens: Tensor) -> int:
    return int(context_lens.max()) if context_lens.numel() else 0


def _is_seen(asking: Tensor, asked: Tensor, window: int | None, sinks: int) -> Tensor:
    """Whether queries at the positions `asking` see the positions `asked`; both are broadcast."""
    is_past = asked <= asking
    return is_past if window is None else is_past & ((asked > asking - window) | (asked < sinks))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    softcap: float | None,
    sink_logits: Tensor | None,
) -> Tensor:
    """Causal, or by `mask`, over [batch, length, heads, head_dim]."""
    group_size = query.shape[2] // key.shape[2]
    if group_size > 1:
        key, value = (side.repeat_interleave(group_size, dim=2) for side in (key, value))
    query, key, value = (side.transpose(1, 2) for side in (query, key, value))
    if softcap is None and sink_logits is None:
        out = F.scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None, scale=scale)
    else:
        out = _weights(query, key, mask, scale, softcap, sink_logits).to(value.dtype) @ value
    return out.transpose(1, 2)


def _weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scale: float,
    softcap: float | None,
    sink_logits: Tensor | None,
) -> Tensor:
    """The softmax of the scores, in float32 at least.  # [batch, heads, num_queries, num_keys]"""
    wide = torch.promote_types(query.dtype, torch.float32)
    scores = query.to(wide) @ key.to(wide).transpose(2, 3) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril()
    scores = scores.masked_fill(~mask, float("-inf"))
    if sink_logits is None:
        return scores.softmax(dim=-1)
    sinks = sink_logits.to(wide)[None, :, None, None].expand(*scores.shape[:3], 1)
    return torch.cat((scores, sinks), dim=-1).softmax(dim=-1)[..., :-1]


def padded_prefill(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Tensor,
    scale: float,
    window: int | None = None,
    sinks: int = 0,
    softcap: float | None = None,
    sink_logits: Tensor | None = None,
) -> Tensor:
    """See `Ops.padded_prefill`."""
    padded_len = query.shape[1]
    columns = torch.arange(padded_len, device=query.device)
    positions = columns - padded_len + lengths[:, None]  # [num_sequences, padded_len]; padding is below 0
    asking, asked = positions[:, :, None], positions[:, None, :]
    itself = columns == columns[:, None]  # a row of padding sees itself: a softmax over nothing is NaN
    mask = (_is_seen(asking, asked, window, sinks) & (asked >= 0)) | itself
    key, value = dequantized(key), dequantized(value)
    mask = mask[:, None]  # [num_sequences, 1, padded_len, padded_len]
    out = _attention(query.to(key.dtype), key, value, mask, scale, softcap, sink_logits)
    return out.to(query.dtype)
