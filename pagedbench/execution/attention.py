"""BatchAttention: the attention of one iteration, for decoding sequences and prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pagedbench.memory.layer_group import ALL_LAYERS
from pagedbench.ops.fused import DecodeContexts

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from torch import Tensor

    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.execution.step_inputs import InputTensors
    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.models.layers import AttentionParams, Rotation
    from pagedbench.ops.addresses import Addresses
    from pagedbench.ops.interface import Ops

    Arguments = tuple[float, int | None, int, float | None, Tensor | None]


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Keys and values of one layer, and which of them its queries see. See `Ops.attend_decode`."""

    keys: Tensor  # [num_slots, num_kv_heads, head_dim], or of 8 bits: see `Ops`
    values: Tensor
    ops: Ops
    scale: float
    window: int | None = None
    sinks: int = 0
    group: int = 0  # the manager's layer group, which says where its tokens are

    def arguments(self, params: AttentionParams | None) -> Arguments:
        """The arguments of the attention operations from `scale` on."""
        if params is None:
            return self.scale, self.window, self.sinks, None, None
        return params.scale, self.window, self.sinks, params.softcap, params.sink_logits

    def as_stored(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """New tokens as the cache would return them, [num_tokens, num_kv_heads, head_dim] or in 8 bits."""
        if self.keys.dtype != torch.int8:
            return key, value
        keys, values = (self.keys.new_empty((len(key), *self.keys.shape[1:])) for _ in range(2))
        self.ops.write_kv(key, value, keys, values, torch.arange(len(key), device=key.device))
        return keys, values


def layers_of(
    cache: KVCache,
    ops: Ops,
    kinds: Items[LayerGroup] = (ALL_LAYERS,),
    groups: Items[LayerGroup] = (ALL_LAYERS,),
) -> list[LayerCache]:
    """The layers of a model over a pool, to be read by a backend.

    Args:
        kinds: the layers by what their queries see, a property of the model.
        groups: the layers that the memory manager keeps apart; layer i of each group uses tensor i.
    """
    num_layers = sum(len(group.layers or cache.keys) for group in groups)
    sight = {layer: kind for kind in kinds for layer in kind.layers or range(num_layers)}
    places = {
        layer: (number, index)
        for number, group in enumerate(groups)
        for index, layer in enumerate(group.layers or range(num_layers))
    }
    scale, layers = cache.head_dim**-0.5, []
    for layer in range(num_layers):
        number, index = places[layer]
        keys, values, kind = cache.keys[index], cache.values[index], sight[layer]
        layers.append(LayerCache(keys, values, ops, scale, kind.window, kind.sinks, number))
    return layers


@dataclass(frozen=True, slots=True)
class Contexts:
    """Where the tokens of some sequences are, and how many each of them has."""

    addresses: Addresses  # one row per sequence
    lens: Tensor  # int32 [num_sequences]

    def pick(self, rows: Tensor | slice) -> Contexts:
        return Contexts(self.addresses.pick(rows), self.lens[rows])


class GroupContexts:
    """The contexts of an iteration in the layers of one group: all, those of decodes, those of prompts."""

    def __init__(self, slots: Tensor, addresses: Addresses, inputs: InputTensors) -> None:
        self.slots = slots  # int64 [num_tokens]
        contexts = Contexts(addresses, inputs.context_lens)
        num_sequences, n = len(inputs.context_lens), inputs.num_decodes
        self.decodes = contexts if n == num_sequences else contexts.pick(slice(n))
        self.prefills = contexts.pick(slice(n, None)) if n < num_sequences else None
        sampled = inputs.sampled_sequences
        if sampled is None or len(sampled) == num_sequences:
            self.sampled = contexts
        else:
            self.sampled = contexts.pick(sampled)


class BatchAttention:
    """The attention of one iteration, made once and called by every layer. See `models.layers.Attend`.

    In the last layer only the tokens attend that a token is sampled from. Each is the last one of its
    context, so decode attention computes them all: decodes and ends of prompts, padded or not.
    """

    def __init__(self, layers: Items[LayerCache], inputs: InputTensors) -> None:
        self._layers = layers
        self._inputs = inputs
        self._groups = [GroupContexts(inputs.slots, inputs.addresses, inputs)]
        self._groups += (GroupContexts(*group, inputs) for group in inputs.more_groups)

    @property
    def decodes(self) -> DecodeContexts | None:
        layers, group = self._layers, self._groups[0]
        is_whole = all(cache.window is None and cache.group == 0 for cache in layers)
        if group.prefills is not None or not is_whole:
            return None
        caches = [cache.keys for cache in layers], [cache.values for cache in layers]
        return DecodeContexts(
            *caches, group.slots, group.decodes.addresses, group.decodes.lens, layers[0].scale
        )

    def __call__(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rotation: Rotation | None,
        rows: Tensor | None = None,
        params: AttentionParams | None = None,
    ) -> Tensor:
        cache, n = self._layers[layer], self._inputs.num_decodes
        group, arguments = self._groups[cache.group], cache.arguments(params)
        _store(cache, group.slots, query, key, value, rotation)
        if rows is not None:
            return _decode(cache, query.index_select(0, rows), group.sampled, arguments)
        if group.prefills is None:
            return _decode(cache, query, group.decodes, arguments)
        prefills = self._prefill(cache, group.prefills, query[n:], key[n:], value[n:], arguments)
        if n == 0:
            return prefills
        return torch.cat((_decode(cache, query[:n], group.decodes, arguments), prefills))

    def _prefill(
        self,
        cache: LayerCache,
        contexts: Contexts,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        arguments: Arguments,
    ) -> Tensor:
        """Attention of all tokens of the prefills.  # [num_tokens, num_heads, head_dim]

        Padded prefills are whole prompts: they see only their own `key` and `value`, in the form that the
        cache stores, so that all systems compute the same.
        """
        ops = cache.ops
        if self._inputs.padded_len is None:
            assert self._inputs.query_starts is not None, "there are prefills"
            return ops.attend_prefill(
                query,
                cache.keys,
                cache.values,
                contexts.addresses,
                self._inputs.query_starts,
                contexts.lens,
                *arguments,
            )
        dense = (-1, self._inputs.padded_len)  # to [num_sequences, padded_len, num_heads, head_dim]
        key, value = cache.as_stored(key, value)
        query, key, value = (side.unflatten(0, dense) for side in (query, key, value))
        return ops.padded_prefill(query, key, value, contexts.lens, *arguments).flatten(0, 1)


def _store(
    cache: LayerCache, slots: Tensor, query: Tensor, key: Tensor, value: Tensor, rotation: Rotation | None
) -> None:
    if rotation is None:
        cache.ops.write_kv(key, value, cache.keys, cache.values, slots)
    else:
        where = (cache.keys, cache.values, slots, rotation.cosine, rotation.sine)
        cache.ops.rotate_and_write_kv(query, key, value, *where)


def _decode(cache: LayerCache, query: Tensor, contexts: Contexts, arguments: Arguments) -> Tensor:
    """Attention of one query per sequence.  # [num_sequences, num_heads, head_dim]"""
    keys, values = cache.keys, cache.values
    return cache.ops.attend_decode(query, keys, values, contexts.addresses, contexts.lens, *arguments)
