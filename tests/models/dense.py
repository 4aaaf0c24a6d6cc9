"""The attention of a whole text at once, without a pool: every token, and which of the others it sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pagedbench.ops import reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.models.decoder import Decoder
    from pagedbench.models.layers import Rotation


class DenseAttention:
    """See `Attend`."""

    def __init__(self, kinds: Sequence[LayerGroup]) -> None:
        self._kinds = kinds

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


def greedy_reply(model: Decoder, prompt: list[int], num_tokens: int) -> tuple[int, ...]:
    """The most likely tokens after the prompt, each from the whole text."""
    text, attend = list(prompt), DenseAttention(model.shape.layer_groups)
    with torch.inference_mode():
        for _ in range(num_tokens):
            positions, last = torch.arange(len(text)), torch.tensor([len(text) - 1])
            states = model.forward(torch.tensor(text), positions, attend, last)
            text.append(int(model.greedy(states)))
    return tuple(text[len(prompt) :])
