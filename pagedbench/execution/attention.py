"""BatchAttention: the attention of one iteration, decoding sequences and prompts side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from torch import Tensor

    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.execution.step_inputs import InputTensors
    from pagedbench.models.layers import Rotation
    from pagedbench.ops.addresses import Addresses
    from pagedbench.ops.interface import Ops


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Keys and values of one layer, and which of them its queries see. See `Ops.attend_decode`."""

    keys: Tensor  # [num_slots, num_kv_heads, head_dim], or of 8 bits: see `Ops`
    values: Tensor
    ops: Ops
    scale: float
    window: int | None = None
    sinks: int = 0

    def as_stored(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """New tokens as the cache gives them back, [num_tokens, num_kv_heads, head_dim] or of 8 bits."""
        if self.keys.dtype != torch.int8:
            return key, value
        keys, values = (self.keys.new_empty((len(key), *self.keys.shape[1:])) for _ in range(2))
        self.ops.write_kv(key, value, keys, values, torch.arange(len(key), device=key.device))
        return keys, values


def layers_of(cache: KVCache, ops: Ops) -> list[LayerCache]:
    """The layers of a pool, to be read by a backend."""
    return [
        LayerCache(keys, values, ops, cache.head_dim**-0.5)
        for keys, values in zip(cache.keys, cache.values, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Contexts:
    """Where the tokens of some sequences are, and how many each of them has."""

    addresses: Addresses  # a row a sequence
    lens: Tensor  # int32 [num_sequences]

    def pick(self, rows: Tensor | slice) -> Contexts:
        return Contexts(self.addresses.pick(rows), self.lens[rows])


class BatchAttention:
    """The attention of one iteration, made once and called by every layer. See `models.layers.Attend`.

    In the last layer only the tokens attend that something is sampled from. Each is the last one of its
    context, so that decoding attention computes them all: decodes and ends of prompts, padded or not.
    """

    def __init__(self, layers: Items[LayerCache], inputs: InputTensors) -> None:
        self._layers = layers
        self._inputs = inputs
        contexts = Contexts(inputs.addresses, inputs.context_lens)
        num_sequences, n = len(inputs.context_lens), inputs.num_decodes
        self._decodes = contexts if n == num_sequences else contexts.pick(slice(n))
        self._prefills = contexts.pick(slice(n, None)) if n < num_sequences else None
        sampled = inputs.sampled_sequences
        if sampled is None or len(sampled) == num_sequences:
            self._sampled = contexts
        else:
            self._sampled = contexts.pick(sampled)

    def __call__(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rotation: Rotation | None,
        rows: Tensor | None = None,
    ) -> Tensor:
        cache, n = self._layers[layer], self._inputs.num_decodes
        self._store(cache, query, key, value, rotation)
        if rows is not None:
            return _decode(cache, query.index_select(0, rows), self._sampled)
        if self._prefills is None:
            return _decode(cache, query, self._decodes)
        prefills = self._prefill(cache, self._prefills, query[n:], key[n:], value[n:])
        if n == 0:
            return prefills
        return torch.cat((_decode(cache, query[:n], self._decodes), prefills))

    def _store(
        self, cache: LayerCache, query: Tensor, key: Tensor, value: Tensor, rotation: Rotation | None
    ) -> None:
        keys, values, slots = cache.keys, cache.values, self._inputs.slots
        if rotation is None:
            cache.ops.write_kv(key, value, keys, values, slots)
        else:
            cosine, sine = rotation.cosine, rotation.sine
            cache.ops.rotate_and_write_kv(query, key, value, keys, values, slots, cosine, sine)

    def _prefill(
        self, cache: LayerCache, contexts: Contexts, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """Attention of all tokens of the prefills.  # [num_tokens, num_heads, head_dim]

        Padded prefills are whole prompts: they see nothing but their own `key` and `value`, as they are
        stored, so that all systems compute the same.
        """
        ops, sight = cache.ops, (cache.scale, cache.window, cache.sinks)
        if self._inputs.padded_len is None:
            assert self._inputs.query_starts is not None, "there are prefills"
            where = (contexts.addresses, self._inputs.query_starts, contexts.lens)
            return ops.attend_prefill(query, cache.keys, cache.values, *where, *sight)
        dense = (-1, self._inputs.padded_len)  # to [num_sequences, padded_len, num_heads, head_dim]
        key, value = cache.as_stored(key, value)
        query, key, value = (side.unflatten(0, dense) for side in (query, key, value))
        return ops.padded_prefill(query, key, value, contexts.lens, *sight).flatten(0, 1)


def _decode(cache: LayerCache, query: Tensor, contexts: Contexts) -> Tensor:
    """Attention of one query a sequence.  # [num_sequences, num_heads, head_dim]"""
    sight = (cache.scale, cache.window, cache.sinks)
    return cache.ops.attend_decode(
        query, cache.keys, cache.values, contexts.addresses, contexts.lens, *sight
    )
