"""The bounds let plain sums in float32 pass, in whatever order, and find every small mistake."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F

from pagedbench.ops.accuracy import (
    accumulated,
    bounded_attention,
    bounded_linear,
    bounded_norm,
    bounded_rotation,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
EPSILON = 1e-5
SCALE = 0.25


def one_by_one(x: Tensor, weight: Tensor, sums: torch.dtype = torch.float32) -> Tensor:
    """x · weightᵀ, a term after another, in sums of that dtype."""
    out = torch.zeros(len(x), len(weight), dtype=sums)
    for i in range(x.shape[1]):
        out += (x[:, i, None].float() * weight[:, i].float()).to(sums)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("in_features", [1, 60, 500])
def test_a_sum_in_any_order(in_features: int, dtype: torch.dtype) -> None:
    x, weight = torch.randn(9, in_features).to(dtype), torch.randn(40, in_features).to(dtype)
    expected = bounded_linear(x, weight, None, "none")
    assert expected.share(one_by_one(x, weight).to(dtype)) <= 1
    assert expected.share(one_by_one(x.flip(1), weight.flip(1)).to(dtype)) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("in_features", [8, 60, 3000])
def test_mistakes_in_a_sum(in_features: int, dtype: torch.dtype) -> None:
    x, weight = torch.randn(9, in_features).to(dtype), torch.randn(40, in_features).to(dtype)
    bias = torch.randn(40).to(dtype)
    expected = bounded_linear(x, weight, bias, "none")
    right = F.linear(x.double(), weight.double(), bias.double())
    assert expected.share(right.to(dtype)) <= 1
    for i in (0, in_features // 2, in_features - 1):
        assert expected.share((right - x[:, i, None].double() * weight[:, i].double()).to(dtype)) > 1
    assert expected.share((right - bias.double()).to(dtype)) > 1
    assert expected.share(right.roll(1, dims=1).to(dtype)) > 1
    assert not expected.share(right.where(right < right.max(), math.nan).to(dtype)) <= 1


@pytest.mark.parametrize("sums", [torch.bfloat16, torch.float16])
def test_sums_in_too_narrow_a_dtype(sums: torch.dtype) -> None:
    x, weight = torch.randn(9, 60).to(sums), torch.randn(40, 60).to(sums)
    assert bounded_linear(x, weight, None, "none").share(one_by_one(x, weight, sums)) > 1


@pytest.mark.parametrize(
    ("activation", "wrong", "dtypes"),
    [
        ("relu", lambda x: F.leaky_relu(x, 0.01), DTYPES),
        ("gelu", lambda x: F.gelu(x, approximate="tanh"), [torch.float32]),
        ("gelu_tanh", F.gelu, [torch.float32]),
        ("gelu", F.silu, DTYPES),
        ("silu_gated", lambda x: F.silu(x.chunk(2, -1)[1]) * x.chunk(2, -1)[0], DTYPES),
        ("silu_gated", lambda x: torch.sigmoid(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1], DTYPES),
    ],
)
def test_another_activation(
    activation: str, wrong: Callable[[Tensor], Tensor], dtypes: list[torch.dtype]
) -> None:
    for dtype in dtypes:
        x, weight = torch.randn(9, 30).to(dtype), (torch.randn(40, 30) / 30**0.5).to(dtype)
        out = wrong(F.linear(x.double(), weight.double())).to(dtype)
        assert bounded_linear(x, weight, None, activation).share(out) > 1


def plain_attention(query: Tensor, key: Tensor, value: Tensor, *, scores_in: torch.dtype) -> Tensor:
    """A float32 softmax over the rows' contexts, with scores rounded to a dtype."""
    context_len, num_rows = len(key), len(query)
    group_size = query.shape[1] // key.shape[1]
    key, value = (side.float().repeat_interleave(group_size, 1) for side in (key, value))
    scores = (torch.einsum("rhd,chd->hrc", query.float(), key) * SCALE).to(scores_in).float()
    unseen = torch.ones(num_rows, context_len, dtype=torch.bool).triu(context_len - num_rows + 1)
    weights = scores.masked_fill(unseen, -math.inf).softmax(-1)
    return torch.einsum("hrc,chd->rhd", weights, value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_rows", "context_len"), [(1, 1), (1, 50), (20, 20), (7, 100)])
def test_mistakes_in_attention(num_rows: int, context_len: int, dtype: torch.dtype) -> None:
    query = (2 * torch.randn(num_rows, 4, 16)).to(dtype)
    key, value = torch.randn(2, context_len, 2, 16).to(dtype)
    expected = bounded_attention(query, key, value, SCALE)

    def share(query: Tensor, key: Tensor, value: Tensor, scores_in: torch.dtype = torch.float32) -> float:
        return expected.share(plain_attention(query, key, value, scores_in=scores_in).to(dtype))

    assert share(query, key, value) <= 1
    assert share(query, key, value.flip(1)) > 1
    if context_len > 1:
        assert share(query, key[1:], value[1:]) > 1 or num_rows == context_len
        assert share(query, key[:-1], value[:-1]) > 1 or num_rows == context_len
        assert share(query, key, value.roll(1, dims=0)) > 1
        assert share(1.05 * query, key, value) > 1
        assert share(query, key, value, torch.bfloat16) > 1
    if num_rows > 1:
        assert share(query.roll(1, dims=0), key, value) > 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("is_rms", [False, True])
def test_mistakes_in_a_norm(is_rms: bool, dtype: torch.dtype) -> None:
    hidden, (weight, bias) = (0.02 * torch.randn(9, 64) + 0.01).to(dtype), torch.randn(2, 64).to(dtype)
    expected = bounded_norm(hidden, weight, bias, EPSILON, is_rms=is_rms)

    def share(*, mean: float, size: int, epsilon: float, offset: Tensor) -> float:
        x = hidden.double()
        x = x - mean * x.mean(-1, keepdim=True)
        normed = x / (x.square().sum(-1, keepdim=True) / size + epsilon).sqrt()
        return expected.share((normed * weight.double() + offset.double()).to(dtype))

    right = {"mean": 0.0 if is_rms else 1.0, "size": 64, "epsilon": EPSILON, "offset": bias}
    assert share(**right) <= 1
    assert share(**right | {"mean": 1.0 if is_rms else 0.0}) > 1
    assert share(**right | {"size": 63}) > 1 or dtype == torch.bfloat16
    assert share(**right | {"epsilon": 0.0}) > 1
    assert share(**right | {"offset": torch.zeros(64)}) > 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_mistakes_in_a_rotation(dtype: torch.dtype) -> None:
    x, angles = torch.randn(6, 3, 16).to(dtype), torch.rand(6, 8) * 6
    expected = bounded_rotation(x, angles.cos(), angles.sin())
    assert expected.share(bounded_rotation(x, angles.cos(), angles.sin()).exact.to(dtype)) <= 1
    for cosine, sine in ((angles.cos(), -angles.sin()), (angles.sin(), angles.cos())):
        assert expected.share(bounded_rotation(x, cosine, sine).exact.to(dtype)) > 1
    assert expected.share(x) > 1


def test_roundings_add_up_at_first_and_then_walk() -> None:
    unit = torch.finfo(torch.float32).eps
    assert accumulated(0, torch.bfloat16) == 0
    assert accumulated(50, torch.bfloat16) == pytest.approx(50 * unit, rel=1e-3)
    assert accumulated(10_000, torch.float16) == pytest.approx(1000 * unit, rel=1e-3)
    assert accumulated(50, torch.float64) < 1e-12


def test_nothing_is_right() -> None:
    assert bounded_linear(torch.empty(0, 8), torch.randn(4, 8), None, "relu").share(torch.empty(0, 4)) == 0
