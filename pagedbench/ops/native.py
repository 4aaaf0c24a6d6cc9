"""The operations of `interface.Ops` by the C++ kernels on CPU tensors.

All but `linear` raise ValueError or TypeError where a shape, dtype, slot or address does not fit.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

import torch

from pagedbench.ops import reference
from pagedbench.ops.addresses import BlockTables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pagedbench.ops.addresses import Addresses
    from pagedbench.ops.fused import DecodeContexts, FusedLayers, LayerWeights
    from pagedbench.ops.interface import Linear

name = "native"
SUPPORTED_DTYPES = (torch.float32, torch.bfloat16)

_cpu = importlib.import_module("pagedbench.kernels._cpu")

instruction_set: str = _cpu.instruction_set()


class NativeLinear:
    """A weight packed in panels, so that it streams from memory while the products are computed."""

    in_use: ClassVar[WeakSet[NativeLinear]] = WeakSet()

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str) -> None:
        self.packed = _cpu.Linear(weight, bias, activation, torch.get_num_threads())
        self.in_use.add(self)
        self.out_features: int = self.packed.out_features

    def __call__(self, x: Tensor) -> Tensor:
        out = torch.empty((x.shape[0], self.out_features), dtype=x.dtype)  # [num_tokens, out_features]
        self.packed.product(x, out, torch.get_num_threads())
        return out

    def argmax(self, x: Tensor) -> Tensor:
        """See `interface.Linear`. Outputs are rounded and compared one by one, but not stored."""
        out = torch.empty(x.shape[0], dtype=torch.int64)  # [num_tokens]
        self.packed.argmax(x, out, torch.get_num_threads())
        return out


def linear(weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Linear:
    """See `Ops.linear`. The weight is packed in panels where that is faster.

    Torch's own product is used on processors whose matrix unit (AMX) torch supports, on those without wide
    vectors, and for shapes that cannot be packed.
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
    """See `Ops.write_kv`. The heads of a token must be contiguous; tokens may be strided."""
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
    """See `Ops.rotate_and_write_kv`, in one pass over the tokens."""
    threads = torch.get_num_threads()
    _cpu.rotate_and_write_kv(query, key, value, key_cache, value_cache, slots, cosine, sine, threads)


def copy_runs(sources: Sequence[Tensor], destinations: Sequence[Tensor], runs: Tensor) -> None:
    """See `Ops.copy_runs`. Runs that overwrite another run's source go through an intermediate copy."""
    _cpu.copy_runs(list(sources), list(destinations), runs, torch.get_num_threads())


def layer_norm(
    hidden: Tensor, delta: Tensor | None, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    """See `Ops.layer_norm`, in one pass over each token."""
    out = torch.empty_like(hidden)  # [num_tokens, size]
    _cpu.norm(out, hidden, delta, weight, bias, epsilon, True, torch.get_num_threads())
    return out


def rms_norm(hidden: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    """See `Ops.rms_norm`, in one pass over each token."""
    out = torch.empty_like(hidden)  # [num_tokens, size]
    _cpu.norm(out, hidden, delta, weight, None, epsilon, False, torch.get_num_threads())
    return out


class NativeLayers:
    """See `FusedLayers`. No Python runs between the kernels, and each product fetches the next weight."""

    def __init__(self, layers: Sequence[LayerWeights]) -> None:
        norm = layers[0].attention_norm
        parts = [
            (
                *(
                    layer.attention_norm.weight,
                    layer.attention_norm.bias,
                    _packed(layer.qkv),
                    _packed(layer.out),
                ),
                *(layer.ffn_norm.weight, layer.ffn_norm.bias, _packed(layer.up), _packed(layer.down)),
            )
            for layer in layers
        ]
        self._layers = _cpu.Layers(parts, norm.epsilon, norm.is_centred)

    def __call__(
        self,
        hidden: Tensor,
        delta: Tensor | None,
        angles: tuple[Tensor, Tensor] | None,
        contexts: DecodeContexts,
    ) -> Tensor:
        out, where = torch.empty_like(hidden), _where(contexts.addresses)  # [num_tokens, hidden_size]
        caches, (cosine, sine) = (contexts.keys, contexts.values), angles or (None, None)
        places = (contexts.slots, *where, contexts.lens, cosine, sine, contexts.scale)
        self._layers.decode(hidden, delta, out, *caches, *places, torch.get_num_threads())
        return out


def _packed(linear: Linear) -> Any:
    assert isinstance(linear, NativeLinear)
    return linear.packed


def fuse(layers: Sequence[LayerWeights]) -> FusedLayers | None:
    """See `Ops.fuse`: where all weights are packed, and all norms of one kind."""
    norms = {
        (norm.epsilon, norm.is_centred)
        for layer in layers
        for norm in (layer.attention_norm, layer.ffn_norm)
    }
    linears = [part for layer in layers for part in (layer.qkv, layer.out, layer.up, layer.down)]
    if len(norms) == 1 and all(isinstance(linear, NativeLinear) for linear in linears):
        return NativeLayers(layers)
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
    """See `Ops.attend_decode`. Block tables and extents give the same bits."""
    out = torch.empty(query.shape, dtype=query.dtype)  # [num_sequences, num_heads, head_dim]
    tensors, where = (out, query, key_cache, value_cache), _where(addresses)
    scores = (window, sinks, softcap, sink_logits)
    _cpu.decode(*tensors, *where, context_lens, scale, *scores, torch.get_num_threads())
    return out


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
    """See `Ops.attend_prefill`, tile by tile. Block tables and extents give the same bits."""
    out = torch.empty(query.shape, dtype=query.dtype)  # [num_tokens, num_heads, head_dim]
    tensors = (out, query, key_cache, value_cache)
    rows = (query_starts[:-1], query_starts[1:], context_lens)
    scores = (window, sinks, softcap, sink_logits)
    _cpu.prefill(*tensors, *_where(addresses), *rows, scale, *scores, torch.get_num_threads())
    return out


def _where(addresses: Addresses) -> tuple[Tensor, int | None, Tensor | None]:
    """The addresses as the kernels take them: tables, block size (None for extents), first positions."""
    if isinstance(addresses, BlockTables):
        return addresses.tables, addresses.block_size, addresses.first_positions
    return addresses.starts, None, None


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
    """See `Ops.padded_prefill`; rows of padding give zeros."""
    num_sequences, padded_len = query.shape[:2]
    out = torch.zeros(query.shape, dtype=query.dtype)  # [num_sequences, padded_len, num_heads, head_dim]
    ends = (torch.arange(num_sequences, dtype=torch.int32) + 1) * padded_len
    context_lens = lengths.to(torch.int32)
    starts = ends - context_lens
    tensors = [side.flatten(0, 1) for side in (out, query, key, value)]
    rows = (starts, ends, context_lens)
    where, scores = (starts.long(), None, None), (window, sinks, softcap, sink_logits)
    _cpu.prefill(*tensors, *where, *rows, scale, *scores, torch.get_num_threads())
    return out
