"""Holds what a backend gives against the bounds that the arithmetic allows it, an element each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pagedbench.ops.accuracy import Bounded, bounded_attention, bounded_linear

if TYPE_CHECKING:
    from torch import Tensor


def assert_within(out: Tensor, expected: Bounded) -> None:
    share = expected.share(out)
    assert share <= 1, f"an error is {share:.2f} times what the arithmetic allows"


def assert_attends(
    out: Tensor,
    contexts: list[tuple[Tensor, Tensor, Tensor]],
    scale: float,
    softcap: float | None = None,
    sink_logits: Tensor | None = None,
) -> None:
    """`contexts`: query, key and value of every sequence in order; `out`: their rows one after another."""
    assert_within(out, attention_of(contexts, scale, softcap, sink_logits))


def attention_of(
    contexts: list[tuple[Tensor, Tensor, Tensor]],
    scale: float,
    softcap: float | None = None,
    sink_logits: Tensor | None = None,
) -> Bounded:
    """What every `out` for these contexts is held against."""
    bounds = [bounded_attention(*sides, scale, softcap, sink_logits) for sides in contexts]
    return Bounded(torch.cat([one.exact for one in bounds]), torch.cat([one.error for one in bounds]))


def assert_largest(chosen: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Each row's output may be the largest: none is larger by more than both may be wrong by."""
    outputs = bounded_linear(x, weight, bias, "none")
    most, least = outputs.exact + outputs.error, outputs.exact - outputs.error
    assert (most.gather(1, chosen[:, None])[:, 0] >= least.amax(dim=1)).all()
