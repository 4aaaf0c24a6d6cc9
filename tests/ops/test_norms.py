"""Residual and norm in one step, against float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.interface import Ops

DTYPES = [torch.float32, torch.bfloat16]
SIZES = [(1, 8), (5, 64), (33, 768), (3, 100), (0, 64)]


def exact_norm(hidden: Tensor, weight: Tensor | None, bias: Tensor | None, *, is_rms: bool) -> Tensor:
    wide = hidden.double()
    if not is_rms:
        wide = wide - wide.mean(-1, keepdim=True)
    wide = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    if weight is not None:
        wide = wide * weight.double()
    return wide if bias is None else wide + bias.double()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("has_delta", [False, True])
@pytest.mark.parametrize("is_affine", [False, True])
def test_layer_norm(
    ops: Ops, shape: tuple[int, int], dtype: torch.dtype, has_delta: bool, is_affine: bool
) -> None:
    hidden, delta = (3 * torch.randn(shape) + 1).to(dtype), torch.randn(shape).to(dtype)
    weight, bias = torch.randn(2, shape[1]).to(dtype) if is_affine else (None, None)
    total = hidden + delta if has_delta else hidden.clone()
    out = ops.layer_norm(hidden, delta if has_delta else None, weight, bias, 1e-5)
    assert torch.equal(hidden, total), "the residual stream is rounded to its dtype, then normed"
    assert out.dtype == dtype
    assert out.data_ptr() != hidden.data_ptr() or not out.numel()
    exact = exact_norm(total, weight, bias, is_rms=False)
    torchs = F.layer_norm(total, shape[1:], weight, bias, 1e-5)
    assert error(out, exact) <= 2 * error(torchs, exact) + 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("has_delta", [False, True])
def test_rms_norm(ops: Ops, shape: tuple[int, int], dtype: torch.dtype, has_delta: bool) -> None:
    hidden, delta = (3 * torch.randn(shape) + 1).to(dtype), torch.randn(shape).to(dtype)
    weight = torch.randn(shape[1]).to(dtype)
    total = hidden + delta if has_delta else hidden.clone()
    out = ops.rms_norm(hidden, delta if has_delta else None, weight, 1e-5)
    assert torch.equal(hidden, total)
    assert out.dtype == dtype
    exact = exact_norm(total, weight, None, is_rms=True)
    torchs = weight * (total.float() * (total.float().square().mean(-1, keepdim=True) + 1e-5).rsqrt()).to(
        dtype
    )
    assert error(out, exact) <= 2 * error(torchs, exact) + 1e-6


def error(out: Tensor, exact: Tensor) -> float:
    return float((out.double() - exact).abs().max()) if out.numel() else 0.0
