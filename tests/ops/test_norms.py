"""Residual and norm in one step."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch

from ops.cases import on_backends
from ops.exact import assert_within
from pagedbench.ops.accuracy import bounded_norm

if TYPE_CHECKING:
    from pagedbench.ops.interface import Ops

DTYPES = [torch.float32, torch.bfloat16]
SIZES = [(1, 8), (5, 64), (33, 768), (3, 100), (0, 64)]


@pytest.mark.parametrize(
    ("ops", "shape", "dtype", "has_delta", "is_affine"),
    on_backends(product(SIZES, DTYPES, [False, True], [False, True]), 12),
    indirect=["ops"],
)
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
    assert_within(out, bounded_norm(total, weight, bias, 1e-5, is_rms=False))


@pytest.mark.parametrize(
    ("ops", "shape", "dtype", "has_delta"),
    on_backends(product(SIZES, DTYPES, [False, True]), 8),
    indirect=["ops"],
)
def test_rms_norm(ops: Ops, shape: tuple[int, int], dtype: torch.dtype, has_delta: bool) -> None:
    hidden, delta = (3 * torch.randn(shape) + 1).to(dtype), torch.randn(shape).to(dtype)
    weight = torch.randn(shape[1]).to(dtype)
    total = hidden + delta if has_delta else hidden.clone()
    out = ops.rms_norm(hidden, delta if has_delta else None, weight, 1e-5)
    assert torch.equal(hidden, total)
    assert out.dtype == dtype
    assert_within(out, bounded_norm(total, weight, None, 1e-5, is_rms=True))
