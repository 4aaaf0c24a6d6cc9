"""Calls of transformers' attention interface: what a layer passes, and what answers."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pagedbench.models.layers import AttentionParams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from pagedbench.models.layers import Rotation

ATTENTION = "pagedbench"
"""The name of our attention in transformers' registry. No mask is registered under it, so none is made."""


OWN_HEADS = "own_heads"
"""An attribute of layers that pass more heads than are computed: those of queries, and of keys, to use."""


@dataclass(frozen=True, slots=True)
class Call:
    """One layer's call of the attention interface."""

    layer: int
    query: Tensor  # [num_tokens, num_heads, head_dim]
    key: Tensor  # [num_tokens, num_kv_heads, head_dim]
    value: Tensor  # [num_tokens, num_kv_heads, head_dim]
    params: AttentionParams
    window: int | None
    rotation: Rotation | None = None  # of queries and keys, still to be done

    def without_tensors(self) -> CallOf:
        """What this call has in common with those of other tokens."""
        return CallOf(self.layer, self.params, self.window)


@dataclass(frozen=True, slots=True)
class CallOf:
    """The arguments that are the same in every call of a layer."""

    layer: int
    params: AttentionParams
    window: int | None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, rotation: Rotation | None) -> Tensor:
        """Call our attention directly, not through transformers.  # [num_tokens, num_heads, head_dim]"""
        call = Call(self.layer, query, key, value, self.params, self.window, rotation)
        return _answer.get()(call)


class Answer(Protocol):
    """What answers the calls of a forward pass."""

    def __call__(self, call: Call) -> Tensor:
        """Attention of a layer.  # [num_tokens, num_heads, head_dim]"""
        ...


_answer: ContextVar[Answer] = ContextVar("answer")


def register() -> None:
    """Make our attention known to transformers, under the name `ATTENTION`."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _interface)


def _interface(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer.

    Args:
        query: [1, num_heads, num_tokens, head_dim]; key and value with num_kv_heads.

    Returns:
        [1, num_tokens, num_heads, head_dim], and no weights.

    Raises:
        ValueError: the architecture's code makes its own mask, which cannot apply to a flat batch.
    """
    if attention_mask is not None:
        raise ValueError("attention is given a mask, which a flat batch cannot have")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    sinks = None if s_aux is None else s_aux.float()
    params = AttentionParams(scale, softcap, sinks)
    if (own := getattr(module, OWN_HEADS, None)) is not None:
        query, key, value = query[:, own[0]], key[:, own[1]], value[:, own[1]]
    query, key, value = (_token_rows(side) for side in (query, key, value))
    return _answer.get()(Call(module.layer_idx, query, key, value, params, sliding_window))[None], None


def _token_rows(side: Tensor) -> Tensor:
    """[1, heads, num_tokens, head_dim] as [num_tokens, heads, head_dim], a token's heads contiguous."""
    rows = side[0].transpose(0, 1)
    is_contiguous = rows.stride(2) == 1 and rows.stride(1) == rows.shape[2]
    return rows if is_contiguous else rows.contiguous()


@contextmanager
def answering(answer: Answer) -> Iterator[None]:
    token = _answer.set(answer)
    try:
        yield
    finally:
        _answer.reset(token)
