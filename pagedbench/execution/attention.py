"""BatchAttention: the attention of one iteration, prompts and decoding sequences side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from torch import Tensor

    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.execution.rows import PrefillRows
    from pagedbench.models.layers import Rotation
    from pagedbench.ops.addresses import Addresses
    from pagedbench.ops.interface import Ops


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Keys and values of one layer, and how its queries look back on them. See `Ops.attend_decode`."""

    keys: Tensor  # [num_slots, num_kv_heads, head_dim]
    values: Tensor  # [num_slots, num_kv_heads, head_dim]
    ops: Ops
    scale: float
    window: int | None = None
    sinks: int = 0

    def decode(self, query: Tensor, addresses: Addresses, context_lens: Tensor) -> Tensor:
        """One query a row, [num_rows, num_heads, head_dim]."""
        return self.ops.attend_decode(
            query, self.keys, self.values, addresses, context_lens, self.scale, self.window, self.sinks
        )

    def prefill(self, rows: PrefillRows, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """All tokens of the rows, [num_tokens, num_heads, head_dim]. Padded rows have no past but their own
        `key` and `value`.
        """
        sight = (self.scale, self.window, self.sinks)
        if rows.padded_len is None:
            where = (rows.addresses, rows.query_starts, rows.context_lens)
            return self.ops.attend_prefill(query, self.keys, self.values, *where, *sight)
        dense = (-1, rows.padded_len)  # to [num_rows, padded_len, num_heads, head_dim]
        query, key, value = (side.unflatten(0, dense) for side in (query, key, value))
        return self.ops.padded_prefill(query, key, value, rows.lengths, *sight).flatten(0, 1)


def layers_of(cache: KVCache, ops: Ops) -> list[LayerCache]:
    """The layers of a pool, to be read by a backend."""
    return [
        LayerCache(keys, values, ops, keys.shape[-1] ** -0.5)
        for keys, values in zip(cache.keys, cache.values, strict=True)
    ]


class Decodes(Protocol):
    """Decoding sequences, one token each: where it is written, and which context it looks back on."""

    @property
    def slots(self) -> Tensor:
        """int64 [num_rows]"""
        ...

    @property
    def context_lens(self) -> Tensor:
        """int32 [num_rows]"""
        ...

    @property
    def addresses(self) -> Addresses: ...


class BatchAttention:
    """The attention of one iteration, made once and called by every layer. See `models.layers.Attend`.

    Tokens are the prefill rows' and then the decode rows', one token each. In the last layer only those
    attend that something is sampled from. Each of them is the last of its context, so the prompts' too
    are decoded, padded ones without their padding.
    """

    def __init__(
        self, layers: Items[LayerCache], prefills: PrefillRows | None, decodes: Decodes | None
    ) -> None:
        parts = [rows.slots for rows in (prefills, decodes) if rows is not None]
        self._layers = layers
        self._prefills = prefills
        self._decodes = decodes
        self._slots = parts[0] if len(parts) == 1 else torch.cat(parts)  # int64 [num_tokens]

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, rotation: Rotation | None
    ) -> Tensor:
        cache = self._layers[layer]
        self._store(cache, query, key, value, rotation)
        prefills, decodes, end, outputs = self._prefills, self._decodes, 0, []
        if prefills is not None:
            end = prefills.num_tokens
            outputs.append(cache.prefill(prefills, query[:end], key[:end], value[:end]))
        if decodes is not None:
            outputs.append(cache.decode(query[end:], decodes.addresses, decodes.context_lens))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)  # [num_tokens, num_heads, head_dim]

    def last(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rotation: Rotation | None,
        rows: Tensor,
    ) -> Tensor:
        cache = self._layers[layer]
        self._store(cache, query, key, value, rotation)
        if len(rows) < len(query):
            query = query.index_select(0, rows)  # [num_rows, num_heads, head_dim]
        prefills, decodes, end, outputs = self._prefills, self._decodes, 0, []
        if prefills is not None:
            end, where = prefills.num_sampled, prefills.sampled_addresses
            outputs.append(cache.decode(query[:end], where, prefills.sampled_context_lens))
        if decodes is not None:
            outputs.append(cache.decode(query[end:], decodes.addresses, decodes.context_lens))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)  # [num_rows, num_heads, head_dim]

    def _store(
        self, cache: LayerCache, query: Tensor, key: Tensor, value: Tensor, rotation: Rotation | None
    ) -> None:
        keys, values, slots = cache.keys, cache.values, self._slots
        if rotation is None:
            cache.ops.write_kv(key, value, keys, values, slots)
        else:
            cosine, sine = rotation.cosine, rotation.sine
            cache.ops.rotate_and_write_kv(query, key, value, keys, values, slots, cosine, sine)
