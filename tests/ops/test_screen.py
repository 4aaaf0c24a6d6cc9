"""Largest outputs found with a copy of the weight in 8 bits: always those of the product itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.interface import Linear, Ops

pytestmark = pytest.mark.usefixtures("no_matrix_unit")

DTYPES = [torch.float32, torch.bfloat16]
SIZES = [(50_272, 64), (4_100, 258), (1_400, 770), (300, 3_600)]
"""Large enough for a copy, with and without rests of panels, of units, and of parts of the depth."""


@pytest.fixture
def has_copies(native: Ops) -> bool:
    from pagedbench.ops.native import instruction_set

    return instruction_set == "avx512_bf16"


def num_screened(linear: Linear) -> int:
    """Calls that a copy has answered."""
    from pagedbench.ops.native import NativeLinear

    return int(linear.packed.num_screened) if isinstance(linear, NativeLinear) else 0


def first_largest(outputs: Tensor) -> Tensor:
    """The first of each row's largest outputs."""
    outputs = outputs.float()
    return (outputs == outputs.amax(dim=1, keepdim=True)).int().argmax(dim=1)


def drawn(size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    return (0.02 * torch.randn(size)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("num_rows", [1, 7, 33])
def test_answers_are_those_of_the_product(
    native: Ops, has_copies: bool, num_rows: int, size: tuple[int, int], dtype: torch.dtype
) -> None:
    linear = native.linear(drawn(size, dtype), torch.randn(size[0]).to(dtype))
    x = torch.randn(num_rows, size[1]).to(dtype)
    assert torch.equal(linear.argmax(x), first_largest(linear(x)))
    if size[1] < 1000:  # the bounds grow with the depth, and with random numbers soon leave too much
        assert num_screened(linear) == has_copies


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_the_first_of_equals(native: Ops, has_copies: bool, num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    weight = torch.randint(-1, 2, (20_000, 64)).float()
    weight[17_000:17_100] = weight[100:200] = 3 * weight[:100]
    x = torch.randint(-1, 2, (20, 64)).float()
    linear = native.linear(weight.clone())
    assert torch.equal(linear.argmax(x), first_largest(x @ weight.T))
    assert num_screened(linear) == has_copies


def test_outputs_that_are_equal_only_after_rounding(native: Ops) -> None:
    """The later one is larger by less than bfloat16 can tell."""
    weight = drawn((20_000, 64), torch.bfloat16)
    x = torch.randn(5, 64).bfloat16()
    weight[300] = weight[15_000] = x.sum(0)
    weight[15_000, 0] += weight[15_000, 0].abs() / 128 * x[0, 0].sign()
    linear = native.linear(weight.clone())
    assert torch.equal(linear.argmax(x), first_largest(linear(x)))


def test_outputs_that_lie_too_close_together(native: Ops) -> None:
    """The copy cannot tell them apart, and is given up."""
    weight = torch.randn(64) + 1e-3 * torch.randn(20_000, 64)
    linear, x = native.linear(weight.clone()), torch.randn(3, 64)
    for _ in range(3):
        assert torch.equal(linear.argmax(x), first_largest(linear(x)))
    assert num_screened(linear) == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30, math.inf, -math.inf])
def test_extreme_rows_and_weights(native: Ops, value: float, dtype: torch.dtype) -> None:
    """What the bounds are not made for is computed without them."""
    weight = drawn((20_000, 64), dtype)
    x = torch.randn(4, 64).to(dtype)
    extreme_x = x.clone()
    extreme_x[2, 5] = value
    linear = native.linear(weight.clone())
    assert torch.equal(linear.argmax(extreme_x), first_largest(linear(extreme_x)))
    assert torch.equal(linear.argmax(x), first_largest(linear(x)))
    weight[777] *= 0
    weight[777, 5] = value
    linear = native.linear(weight.clone())
    positive = torch.rand(4, 64).to(dtype) + 0.5
    assert torch.equal(linear.argmax(positive), first_largest(linear(positive)))


def test_negative_outputs_beside_a_column_that_is_not_a_number(native: Ops) -> None:
    weight = -torch.rand(20_000, 64) - 0.1
    x = torch.rand(3, 64) + 0.1
    expected = first_largest(native.linear(weight.clone())(x))
    weight[19_990] = math.nan
    assert torch.equal(native.linear(weight).argmax(x), expected)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from(DTYPES),
    depth=st.integers(55, 120),
    outlier=st.floats(0, 40),
    exponent=st.integers(-8, 8),
)
def test_any_numbers(
    native: Ops, seed: int, dtype: torch.dtype, depth: int, outlier: float, exponent: int
) -> None:
    """With outliers in some dimensions, and rows and columns of very different lengths."""
    torch.manual_seed(seed)
    depth += depth % 2
    weight = torch.randn(20_000, depth) * 2.0 ** torch.randint(
        -abs(exponent), abs(exponent) + 1, (20_000, 1)
    )
    x = torch.randn(6, depth) * 2.0**exponent
    x[:, 3] *= outlier
    linear = native.linear(weight.to(dtype))
    rows = x.to(dtype)
    assert torch.equal(linear.argmax(rows), first_largest(linear(rows)))
