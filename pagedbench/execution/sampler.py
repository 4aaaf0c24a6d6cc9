"""Which token follows a sequence that goes on by itself: the likeliest, or one drawn at random."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from pagedbench.simulation.random_numbers import uniforms

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from torch import Tensor

    from pagedbench.request import SamplingParams, Sequence

MIN_TEMPERATURE = 1e-30
"""At less the likeliest token is as certain, but logits divided by it overflow float32."""


def greedy(logits: Tensor) -> Tensor:
    """The likeliest token of each row of [num_rows, vocab_size]; the first of several equals."""
    return logits.argmax(dim=-1)  # [num_rows]


def draw(logits: Tensor, sequences: Items[Sequence]) -> Tensor:
    """A token for each sequence, by its own temperature, top-k and top-p.

    The random number belongs to (seed, request, sequence, position); the token is the one at which the
    cumulative probability, in order of the vocabulary, first exceeds it.

    Args:
        logits: [len(sequences), vocab_size]
    """
    samplings = [sequence.group.request.sampling for sequence in sequences]
    temperatures = [max(sampling.temperature, MIN_TEMPERATURE) for sampling in samplings]
    scores = logits.float() / _column(temperatures, torch.float32, logits)  # [num_rows, vocab_size]
    filtered = [i for i, item in enumerate(samplings) if item.top_k > 0 or item.top_p < 1.0]
    if filtered:
        index = torch.tensor(filtered, device=logits.device)
        kept = keep_likeliest(scores.index_select(0, index), [samplings[i] for i in filtered])
        scores = scores.index_copy(0, index, kept)
    cumulative = scores.double().softmax(dim=-1).cumsum(dim=-1)  # [num_rows, vocab_size]
    chances = _column(_chances(sequences), torch.float64, logits) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, chances, right=True).squeeze(1)  # [num_rows]


def keep_likeliest(scores: Tensor, samplings: Items[SamplingParams]) -> Tensor:
    """Scores outside top-k, and then outside top-p of the rest, become -inf.

    The rules of Hugging Face's logits processors: all that equal the k-th score stay; top-p keeps the
    smallest set of likeliest tokens whose probabilities reach `top_p`, at least one.

    Args:
        scores: [num_rows, vocab_size], divided by the temperature.
    """
    top_ks = [min(item.top_k or scores.shape[-1], scores.shape[-1]) for item in samplings]
    by_rank = [i for i, top_k in enumerate(top_ks) if top_k < scores.shape[-1]]
    by_sum = [i for i, item in enumerate(samplings) if item.top_p < 1.0]
    if by_rank:
        index = torch.tensor(by_rank, device=scores.device)
        kept = _top_k(scores.index_select(0, index), [top_ks[i] for i in by_rank])
        scores = scores.index_copy(0, index, kept)
    if by_sum:
        index = torch.tensor(by_sum, device=scores.device)
        kept = _top_p(scores.index_select(0, index), [samplings[i].top_p for i in by_sum])
        scores = scores.index_copy(0, index, kept)
    return scores


def _top_k(scores: Tensor, top_ks: list[int]) -> Tensor:
    best = scores.topk(max(top_ks), dim=-1).values  # [num_rows, max_k], the likeliest first
    last = best.gather(1, _column([top_k - 1 for top_k in top_ks], torch.int64, scores))
    return scores.masked_fill(scores < last, -math.inf)


def _top_p(scores: Tensor, top_ps: list[float]) -> Tensor:
    ranked, order = scores.sort(dim=-1)  # [num_rows, vocab_size], the likeliest last
    below = ranked.double().softmax(dim=-1).cumsum(dim=-1)  # of this token and all that are less likely
    is_tail = below <= _column([1.0 - top_p for top_p in top_ps], torch.float64, scores)
    is_tail[:, -1] = False
    return ranked.masked_fill(is_tail, -math.inf).gather(1, order.argsort(dim=-1))


def logprobs_of(logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of `tokens[i]` in row `rows[i]` of the logits as the model gave them, in float32."""
    return torch.log_softmax(logits, dim=-1, dtype=torch.float32)[rows, tokens]  # [len(tokens)]


def _chances(sequences: Items[Sequence]) -> list[float]:
    requests = [sequence.group.request for sequence in sequences]
    numbers: list[float] = uniforms(
        [request.sampling.seed for request in requests],
        [request.request_id for request in requests],
        [sequence.sequence_id for sequence in sequences],
        [len(sequence.output_ids) for sequence in sequences],
    ).tolist()
    return numbers


def _column(values: list[float] | list[int], dtype: torch.dtype, like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=like.device)[:, None]  # [len(values), 1]
