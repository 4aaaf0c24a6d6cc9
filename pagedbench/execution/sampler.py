"""Which token follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Choice:
    """The token chosen in each row and, where asked for, its log-probability."""

    tokens: list[int]
    logprobs: list[float]


def greedy(logits: Tensor, with_logprobs: bool) -> Choice:
    """The likeliest token of each row; the first of several that are equally likely.

    Args:
        logits: [num_rows, vocab_size]
        with_logprobs: also their log-probabilities, computed in float32; 0.0 otherwise.
    """
    tokens = logits.argmax(dim=-1)  # [num_rows]
    if not with_logprobs:
        return Choice(tokens.tolist(), [0.0] * len(tokens))
    logprobs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)  # [num_rows, vocab_size]
    chosen = logprobs.gather(1, tokens[:, None]).squeeze(1)  # [num_rows]
    return Choice(tokens.tolist(), chosen.tolist())
