"""Greedy and random sampling, filters, log-probabilities, and one step of beam search."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from pagedbench.execution.sampling import apply_top_k_top_p, greedy, logprobs_of, sample_random
from pagedbench.execution.sampling_groups import SamplingGroups
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, SequenceGroup

LOGITS = torch.tensor([[0.0, math.log(3.0), 0.0], [2.0, 2.0, -math.inf]])
NUM_DRAWS = 20_000
RANDOM = SamplingParams(8, temperature=1.0)


def sequences_of(sampling: SamplingParams, num_groups: int = 1, num_tokens: int = 0):
    """All sequences of requests 0, 1, ... that have `num_tokens` tokens already."""
    groups = [SequenceGroup(Request(i, 0.0, Prompt(3), sampling), i) for i in range(num_groups)]
    sequences = [sequence for group in groups for sequence in group.sequences]
    for sequence in sequences:
        sequence.output_ids = [0] * num_tokens
    return sequences


def sampled(logits: torch.Tensor, sequences) -> torch.Tensor:
    """The next token of each sequence, row by row."""
    return sample_random(logits, SamplingGroups((sequence,) for sequence in sequences).inputs())


def filtered(scores: torch.Tensor, samplings) -> torch.Tensor:
    top_ks, top_ps = (np.array([getattr(item, name) for item in samplings]) for name in ("top_k", "top_p"))
    return apply_top_k_top_p(scores, top_ks, top_ps)


def draws(row: torch.Tensor, sampling: SamplingParams) -> torch.Tensor:
    """First tokens of `NUM_DRAWS` sequences."""
    sequences = sequences_of(replace(sampling, n=4), NUM_DRAWS // 4)
    return sampled(row.expand(NUM_DRAWS, -1), sequences)


def test_the_likeliest_token_and_the_first_of_equals():
    assert greedy(LOGITS).tolist() == [1, 0]


def test_logprobs_of_any_rows():
    logprobs = logprobs_of(LOGITS, torch.tensor([0, 1, 0]), torch.tensor([1, 0, 2]))
    assert logprobs.tolist() == pytest.approx([math.log(0.6), math.log(0.5), math.log(0.2)])


def test_logprobs_of_half_precision_are_computed_in_float32():
    logits = torch.linspace(-4, 4, 1000, dtype=torch.bfloat16)[None]
    exact = logits.double().log_softmax(-1)[0, 999].item()
    logprobs = logprobs_of(logits, torch.tensor([0]), torch.tensor([999]))
    assert logprobs.dtype == torch.float32
    assert logprobs.tolist() == pytest.approx([exact], abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_draws_agree_with_softmax(temperature):
    row = torch.randn(30, generator=torch.Generator().manual_seed(1))
    counts = draws(row, replace(RANDOM, temperature=temperature)).bincount(minlength=30)
    expected = (row.double() / temperature).softmax(-1) * NUM_DRAWS
    is_rare = expected < 5  # too few for the approximation: counted together
    observed, ideal = counts[~is_rare].tolist(), expected[~is_rare].tolist()
    if is_rare.any():
        observed.append(counts[is_rare].sum().item())
        ideal.append(expected[is_rare].sum().item())
    assert len(ideal) > 8
    assert stats.chisquare(observed, ideal).pvalue > 0.01


def test_draws_under_filters_agree_with_what_is_left():
    row = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15]).log()
    counts = draws(row, replace(RANDOM, top_k=4, top_p=0.8)).bincount(minlength=5)
    assert counts[0] == counts[2] == 0  # of four, 0.4 + 0.3 + 0.15 of 0.95 reach 0.8
    expected = [NUM_DRAWS * p / 0.85 for p in (0.4, 0.3, 0.15)]
    assert stats.chisquare(counts[[1, 3, 4]].tolist(), expected).pvalue > 0.01


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, 0.9), (0, 0.05), (5, 1.0), (40, 0.6), (500, 0.99), (1, 0.5)]
)
def test_filters_keep_what_hugging_face_keeps(top_k, top_p):
    logits = torch.randn(64, 300, generator=torch.Generator().manual_seed(2)) * 3
    processors = LogitsProcessorList([TemperatureLogitsWarper(0.7)])
    if top_k:
        processors.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        processors.append(TopPLogitsWarper(top_p))
    expected = processors(torch.zeros(64, 1, dtype=torch.long), logits)
    sampling = replace(RANDOM, top_k=top_k, top_p=top_p)
    assert torch.equal(filtered(logits / 0.7, [sampling] * 64), expected)


def test_rows_are_filtered_each_by_its_own_rules():
    scores = torch.randn(5, 300, generator=torch.Generator().manual_seed(2)) * 3
    kinds = [(0, 1.0), (7, 1.0), (0, 0.8), (40, 0.6), (300, 1.0)]
    samplings = [replace(RANDOM, top_k=top_k, top_p=top_p) for top_k, top_p in kinds]
    alone = [filtered(row[None], [item])[0] for row, item in zip(scores, samplings, strict=True)]
    assert torch.equal(filtered(scores, samplings), torch.stack(alone))


def test_equals_of_the_last_kept_stay():
    scores = torch.tensor([[1.0, 3.0, 1.0, 0.0]])
    kept = filtered(scores, [replace(RANDOM, top_k=2)])
    assert kept.tolist() == [[1.0, 3.0, 1.0, -math.inf]]


def test_top_p_keeps_no_more_than_reach_it_and_one_at_least():
    equal = torch.zeros(3, 4)
    kept = filtered(equal, [replace(RANDOM, top_p=top_p) for top_p in (0.5, 0.51, 1e-20)])
    assert kept.isfinite().sum(-1).tolist() == [2, 3, 1]


def test_an_impossible_token_is_not_drawn_by_the_smallest_number(monkeypatch):
    monkeypatch.setattr("pagedbench.execution.sampling_groups.uniforms", lambda *keys: np.zeros(1))
    assert sampled(torch.tensor([[-math.inf, -math.inf, 0.0, 0.0]]), sequences_of(RANDOM)).tolist() == [2]


@pytest.mark.parametrize("temperature", [1e-9, 1e-38, 1e-300])
def test_next_to_no_temperature_draws_the_likeliest(temperature):
    rows = 30 * torch.randn(64, 300, generator=torch.Generator().manual_seed(2))
    for sampling in (RANDOM, replace(RANDOM, top_k=5, top_p=0.9)):
        sequences = sequences_of(replace(sampling, temperature=temperature), num_groups=64)
        assert torch.equal(sampled(rows, sequences), greedy(rows))


def test_each_row_has_its_own_parameters():
    row = torch.linspace(0, 1, 50)
    kinds = [
        RANDOM, replace(RANDOM, top_k=1), replace(RANDOM, temperature=0.01), replace(RANDOM, top_p=0.01)
    ]  # fmt: skip
    sequences = [sequences_of(sampling)[0] for sampling in kinds]
    alone = [sampled(row[None], [sequence]).item() for sequence in sequences]
    assert sampled(row.expand(4, -1), sequences).tolist() == alone
    assert alone[1] == alone[3] == 49
    assert alone[0] != 49


def test_a_draw_belongs_to_seed_request_sequence_and_position():
    row = torch.zeros(10**6)  # all equally likely: the token is the random number

    def tokens(seed=0, num_tokens=0):
        sequences = sequences_of(replace(RANDOM, n=3, seed=seed), num_groups=2, num_tokens=num_tokens)
        return sampled(row.expand(6, -1), sequences).tolist()

    everything = tokens() + tokens(seed=1) + tokens(num_tokens=1)
    assert len(set(everything)) == 18
    assert tokens() + tokens(seed=1) + tokens(num_tokens=1) == everything


def test_half_precision_logits_draw_from_the_same_distribution():
    row = torch.randn(30, generator=torch.Generator().manual_seed(1)).bfloat16()
    assert torch.equal(draws(row, RANDOM), draws(row.float(), RANDOM))
