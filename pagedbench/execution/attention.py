"""BatchAttention: the attention of one iteration, prompts and decoding sequences side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from torch import Tensor

    from pagedbench.execution.addresses import Addresses, LayerCache
    from pagedbench.execution.rows import PrefillRows
    from pagedbench.models.layers import Rotation


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
            outputs.append(_prefill(prefills, query[:end], key[:end], value[:end], cache))
        if decodes is not None:
            outputs.append(decodes.addresses.decode(query[end:], decodes.context_lens, cache))
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
            end, lens = prefills.num_sampled, prefills.sampled_context_lens
            outputs.append(prefills.sampled_addresses.decode(query[:end], lens, cache))
        if decodes is not None:
            outputs.append(decodes.addresses.decode(query[end:], decodes.context_lens, cache))
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


def _prefill(rows: PrefillRows, query: Tensor, key: Tensor, value: Tensor, cache: LayerCache) -> Tensor:
    if rows.padded_len is None:
        return rows.addresses.prefill(query, rows.query_starts, rows.context_lens, cache)
    dense = (-1, rows.padded_len)  # to [num_rows, padded_len, num_heads, head_dim]
    out = cache.ops.padded_prefill(
        query.unflatten(0, dense),
        key.unflatten(0, dense),
        value.unflatten(0, dense),
        rows.lengths,
        cache.scale,
    )
    return out.flatten(0, 1)  # [num_tokens, num_heads, head_dim]
