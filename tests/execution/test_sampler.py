"""Greedy choice and its log-probabilities."""

from __future__ import annotations

import math

import pytest
import torch

from pagedbench.execution.sampler import Choice, greedy

LOGITS = torch.tensor([[0.0, math.log(3.0), 0.0], [2.0, 2.0, -math.inf]])


def test_the_likeliest_token_and_the_first_of_equals():
    assert greedy(LOGITS, with_logprobs=False) == Choice([1, 0], [0.0, 0.0])


def test_logprobs():
    choice = greedy(LOGITS, with_logprobs=True)
    assert choice.tokens == [1, 0]
    assert choice.logprobs == pytest.approx([math.log(0.6), math.log(0.5)])


def test_logprobs_of_half_precision_are_computed_in_float32():
    logits = torch.linspace(-4, 4, 1000, dtype=torch.bfloat16)[None]
    exact = logits.double().log_softmax(-1).max().item()
    assert greedy(logits, with_logprobs=True).logprobs == pytest.approx([exact], abs=1e-5)
