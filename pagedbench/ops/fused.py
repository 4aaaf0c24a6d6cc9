"""What a backend may compute in one call: all layers of a decoder, for tokens that decode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pagedbench.ops.addresses import Addresses
    from pagedbench.ops.interface import Linear


@dataclass(frozen=True, slots=True)
class NormWeights:
    """A norm of [num_tokens, size]: see `Ops.layer_norm` (centred) and `Ops.rms_norm`."""

    weight: Tensor | None  # [size]
    bias: Tensor | None  # [size]
    epsilon: float
    is_centred: bool


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Attention and feed-forward, each behind a norm, as `models.decoder.Layer` has them."""

    attention_norm: NormWeights
    qkv: Linear
    out: Linear
    ffn_norm: NormWeights
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class DecodeContexts:
    """What the tokens of an iteration look back at: one token a sequence, which sees all of its sequence.

    Attributes:
        keys, values: the caches of every layer; their shape is that of `Ops.write_kv`.
        slots: int64 [num_tokens], where the new keys and values go.
        addresses: of all layers alike, a row a token.
        lens: int32 [num_tokens], the new token included.
        scale: of scores.
    """

    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    slots: Tensor
    addresses: Addresses
    lens: Tensor
    scale: float


class FusedLayers(Protocol):
    """All layers of a decoder. The answer has the bits that they give one by one."""

    def __call__(
        self,
        hidden: Tensor,
        delta: Tensor | None,
        angles: tuple[Tensor, Tensor] | None,
        contexts: DecodeContexts,
    ) -> Tensor:
        """Store keys and values, and return what the last norm adds to the residual stream.

        Args:
            hidden: [num_tokens, hidden_size], the residual stream; it grows in place.
            delta: [num_tokens, hidden_size], what is added to it first.
            angles: cosine and sine, float32 [num_tokens, head_dim / 2] each, of the rotary embedding.

        Returns:
            [num_tokens, hidden_size]
        """
        ...
