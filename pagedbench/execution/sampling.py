"""Choosing tokens: the likeliest, one sampled at random, or the best continuations of beams."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pagedbench.execution.step_inputs import BeamOutputs, StepOutputs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from pagedbench.execution.step_inputs import SamplingInputs
    from pagedbench.models.decoder import Decoder

MIN_TEMPERATURE = 1e-30
"""The lowest temperature applied: lower ones give the same sample, but logits / temperature overflow."""


def sample(model: Decoder, states: Tensor, sampling: SamplingInputs, *, with_logprobs: bool) -> StepOutputs:
    """The next tokens of all sequences.

    Logits are computed only for the rows that need them: greedy tokens come straight from the model.

    Args:
        states: [num_rows, hidden_size]
        with_logprobs: also the log-probabilities of greedy and random tokens; 0.0 otherwise. Beams
            always have their scores.
    """
    if with_logprobs:
        return _sample_with_logprobs(model.logits(states), sampling)
    greedy_rows, random_rows, beam_rows = sampling.greedy_rows, sampling.random_rows, sampling.beam_rows
    tokens: list[int] = []
    if len(greedy_rows):
        tokens = model.greedy(_pick(states, greedy_rows)).tolist()
    beams: list[BeamOutputs] = []
    if len(random_rows) or len(beam_rows):
        needed = _rows_with_logits(sampling)
        logits = model.logits(_pick(states, needed))  # [len(needed), vocab_size]
        if len(random_rows):
            rows = np.searchsorted(needed, random_rows)
            tokens += sample_random(_pick(logits, rows), sampling).tolist()
        beams = beam_steps(logits, np.searchsorted(needed, beam_rows), sampling)
    return StepOutputs(tokens, [0.0] * len(tokens), beams)


def contribute(model: Decoder, states: Tensor, sampling: SamplingInputs, *, with_logprobs: bool) -> None:
    """Compute this rank's part of the logits, from which another rank samples."""
    if with_logprobs:
        model.logits(states)
        return
    if len(sampling.greedy_rows):
        model.greedy(_pick(states, sampling.greedy_rows))
    if len(sampling.random_rows) or len(sampling.beam_rows):
        model.logits(_pick(states, _rows_with_logits(sampling)))


def _rows_with_logits(sampling: SamplingInputs) -> NDArray[np.int64]:
    """The rows of which every score is needed, ascending."""
    return np.unique(np.concatenate((sampling.random_rows, sampling.beam_rows)))


def _sample_with_logprobs(logits: Tensor, sampling: SamplingInputs) -> StepOutputs:
    """`logits`: [num_rows, vocab_size], of every row."""
    num_greedy = len(sampling.greedy_rows)
    rows = _tensor(np.concatenate((sampling.greedy_rows, sampling.random_rows)), logits)
    tokens = greedy(logits).index_select(0, rows)  # [len(rows)]
    if num_greedy < len(rows):
        tokens[num_greedy:] = sample_random(logits.index_select(0, rows[num_greedy:]), sampling)
    logprobs = logprobs_of(logits, rows, tokens).tolist()
    return StepOutputs(tokens.tolist(), logprobs, beam_steps(logits, sampling.beam_rows, sampling))


def greedy(logits: Tensor) -> Tensor:
    """The likeliest token of each row of [num_rows, vocab_size]; the first among equals."""
    return logits.argmax(dim=-1)  # [num_rows]


def sample_random(logits: Tensor, sampling: SamplingInputs) -> Tensor:
    """A token for each row, by its own temperature, top-k and top-p.

    It is the token at which the cumulative probability, in order of the vocabulary, first exceeds the
    row's random number.

    Args:
        logits: [num_random, vocab_size]
    """
    temperatures = np.maximum(sampling.temperatures, np.float32(MIN_TEMPERATURE))
    scores = logits.float() / _column(temperatures, logits)  # [num_random, vocab_size]
    scores = apply_top_k_top_p(scores, sampling.top_ks, sampling.top_ps)
    cumulative = scores.double().softmax(dim=-1).cumsum(dim=-1)  # [num_random, vocab_size]
    thresholds = _column(sampling.uniforms, logits) * cumulative[:, -1:]  # [num_random, 1]
    return torch.searchsorted(cumulative, thresholds, right=True).squeeze(1)  # [num_random]


def apply_top_k_top_p(scores: Tensor, top_ks: NDArray[np.int64], top_ps: NDArray[np.float64]) -> Tensor:
    """Scores outside top-k, and then outside top-p of the rest, become -inf.

    The rules of Hugging Face's logits processors: all that equal the k-th score stay; top-p keeps the
    smallest set of likeliest tokens whose probabilities reach `top_ps[i]`, at least one.

    Args:
        scores: [num_rows, vocab_size], divided by the temperature.
        top_ks, top_ps: [num_rows]; 0 and 1 keep all.
    """
    limited = np.flatnonzero((top_ks > 0) & (top_ks < scores.shape[-1]))
    if len(limited):
        index = _tensor(limited, scores)
        kept = _top_k(scores.index_select(0, index), top_ks[limited])
        scores = scores.index_copy(0, index, kept)
    limited = np.flatnonzero(top_ps < 1.0)
    if len(limited):
        index = _tensor(limited, scores)
        kept = _top_p(scores.index_select(0, index), top_ps[limited])
        scores = scores.index_copy(0, index, kept)
    return scores


def _top_k(scores: Tensor, top_ks: NDArray[np.int64]) -> Tensor:
    best = scores.topk(int(top_ks.max()), dim=-1).values  # [num_rows, max_k], the likeliest first
    last = best.gather(1, _column(top_ks - 1, scores))
    return scores.masked_fill(scores < last, -math.inf)


def _top_p(scores: Tensor, top_ps: NDArray[np.float64]) -> Tensor:
    ranked, order = scores.sort(dim=-1)  # [num_rows, vocab_size], the likeliest last
    below = ranked.double().softmax(dim=-1).cumsum(dim=-1)  # of this token and all that are less likely
    is_tail = below <= _column(1.0 - top_ps, scores)
    is_tail[:, -1] = False
    return ranked.masked_fill(is_tail, -math.inf).gather(1, order.argsort(dim=-1))


def logprobs_of(logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of `tokens[i]` in row `rows[i]` of the logits as the model gave them, in float32."""
    return torch.log_softmax(logits, dim=-1, dtype=torch.float32)[rows, tokens]  # [len(tokens)]


def beam_steps(logits: Tensor, rows: NDArray[np.int64], sampling: SamplingInputs) -> list[BeamOutputs]:
    """One step of every beam search: the best continuations of all of a group's beams together.

    Scores are sums of log-probabilities in float32, and nothing ends a beam early, as in Hugging Face's
    beam search without end-of-sequence (its `sequences_scores` are these sums divided by the length).
    Groups of one width are computed together.

    Args:
        logits: [num_rows, vocab_size]
        rows: [num_beams], the row of each beam.
    """
    kinds: dict[tuple[int, bool], list[int]] = {}
    columns = zip(sampling.beam_widths.tolist(), sampling.is_first_step.tolist(), strict=True)
    for group, kind in enumerate(columns):
        kinds.setdefault(kind, []).append(group)
    starts = np.cumsum(sampling.beam_widths) - sampling.beam_widths  # [num_groups], of their beams
    steps: dict[int, BeamOutputs] = {}
    for (width, is_first), groups in kinds.items():
        beams = starts[groups][:, None] + np.arange(width)  # [num_groups, width]
        if is_first:
            found = _first_steps(_logprobs(logits, rows[beams[:, :1]])[:, 0], width)
        else:
            found = _next_steps(_logprobs(logits, rows[beams]), sampling.beam_scores[beams])
        steps.update(zip(groups, found, strict=True))
    return [steps[group] for group in range(len(starts))]


def _logprobs(logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
    """[num_groups, num_beams, vocab_size], in float32."""
    picked = logits.index_select(0, _tensor(rows.flatten(), logits)).unflatten(0, rows.shape)
    return picked.log_softmax(dim=-1, dtype=torch.float32)


def _first_steps(logprobs: Tensor, width: int) -> list[BeamOutputs]:
    """All beams hold the same prompt: each takes one of its best tokens, and continues itself.

    Args:
        logprobs: [num_groups, vocab_size], of the first beam.
    """
    scores, tokens = logprobs.topk(width)  # [num_groups, width]
    columns = zip(tokens.tolist(), scores.tolist(), strict=True)
    return [BeamOutputs(list(range(width)), ids, best) for ids, best in columns]


def _next_steps(logprobs: Tensor, past: NDArray[np.float32]) -> list[BeamOutputs]:
    """`logprobs`: [num_groups, width, vocab_size]; `past`: [num_groups, width], scores so far."""
    width, vocab_size = logprobs.shape[1:]
    totals = logprobs + _tensor(past, logprobs)[:, :, None]
    scores, chosen = totals.flatten(1).topk(width)  # [num_groups, width]
    parents, tokens = chosen // vocab_size, chosen % vocab_size
    columns = zip(parents.tolist(), tokens.tolist(), scores.tolist(), strict=True)
    return [BeamOutputs(*column) for column in columns]


def _pick(table: Tensor, rows: NDArray[np.int64]) -> Tensor:
    """Some rows of a table; the table itself if it is all of them.  # [len(rows), ...]"""
    if np.array_equal(rows, np.arange(len(table))):
        return table
    return table.index_select(0, _tensor(rows, table))


def _tensor(array: NDArray[Any], like: Tensor) -> Tensor:
    return torch.from_numpy(array).to(like.device)


def _column(array: NDArray[Any], like: Tensor) -> Tensor:
    return _tensor(array, like)[:, None]  # [len(array), 1]
