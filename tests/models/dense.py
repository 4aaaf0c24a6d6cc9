"""The attention of a whole text at once, without a pool: every token, and which of the others it sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pagedbench.ops import reference
from pagedbench.ops.quantized import dequantized, quantized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.models.decoder import Decoder
    from pagedbench.models.layers import Rotation


class DenseAttention:
    """See `Attend`. `has_int8`: what 8 bits leave of keys and values."""

    decodes = None

    def __init__(self, kinds: Sequence[LayerGroup], *, has_int8: bool = False) -> None:
        self._kinds = kinds
        self._has_int8 = has_int8

    def __call__(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rotation: Rotation | None,
        rows: Tensor | None = None,
    ) -> Tensor:
        assert rotation is not None
        kind = next(kind for kind in self._kinds if kind.layers is None or layer in kind.layers)
        keys, values, slots = torch.empty_like(key), torch.empty_like(key), torch.arange(len(key))
        angles = (rotation.cosine, rotation.sine)
        reference.rotate_and_write_kv(query, key, value, keys, values, slots, *angles)
        if self._has_int8:
            keys, values = (dequantized(quantized(side)) for side in (keys, values))
        out = _attend(kind, query, keys, values)
        return out if rows is None else out.index_select(0, rows)


def _attend(kind: LayerGroup, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    asking, asked = torch.arange(len(query))[:, None], torch.arange(len(query))
    is_seen = asked <= asking
    if kind.window is not None:
        is_seen &= (asked > asking - kind.window) | (asked < kind.sinks)
    repeats = query.shape[1] // keys.shape[1]
    keys, values = (side.repeat_interleave(repeats, dim=1) for side in (keys, values))
    scores = torch.einsum("ihd,jhd->hij", query, keys) * query.shape[-1] ** -0.5
    weights = scores.masked_fill(~is_seen, -torch.inf).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, values)


def greedy_reply(
    model: Decoder, prompt: list[int], num_tokens: int, *, has_int8: bool = False
) -> tuple[int, ...]:
    """The most likely tokens after the prompt, each from the whole text."""
    text, attend = list(prompt), DenseAttention(model.shape.layer_groups, has_int8=has_int8)
    with torch.inference_mode():
        for _ in range(num_tokens):
            positions, last = torch.arange(len(text)), torch.tensor([len(text) - 1])
            states = model.forward(torch.tensor(text), positions, attend, last)
            text.append(int(model.greedy(states)))
    return tuple(text[len(prompt) :])
