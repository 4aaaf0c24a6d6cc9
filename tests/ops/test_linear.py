"""Linear layers of every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.exact import assert_largest, assert_within
from pagedbench.ops.accuracy import bounded_linear

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.interface import Ops

DTYPES = [torch.float32, torch.bfloat16]
ACTIVATIONS = ["none", "relu", "gelu", "gelu_tanh", "silu_gated"]


def drawn(*shape: int, dtype: torch.dtype) -> Tensor:
    return (torch.randn(shape) / shape[-1] ** 0.5).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("num_tokens", [1, 8, 33])
def test_activations(ops: Ops, num_tokens: int, activation: str, dtype: torch.dtype) -> None:
    x = torch.randn(num_tokens, 72).to(dtype)
    weight, bias = drawn(130, 72, dtype=dtype), drawn(130, dtype=dtype)
    out = ops.linear(weight.clone(), bias, activation)(x)
    assert out.dtype == dtype
    assert_within(out, bounded_linear(x, weight, bias, activation))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    num_tokens=st.integers(1, 40),
    in_features=st.integers(1, 60),
    out_features=st.integers(1, 150),
    is_gated=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
def test_any_shape(
    ops: Ops, num_tokens: int, in_features: int, out_features: int, is_gated: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    rows = 2 * out_features if is_gated else out_features
    x, weight = torch.randn(num_tokens, in_features).to(dtype), drawn(rows, in_features, dtype=dtype)
    activation = "silu_gated" if is_gated else "none"
    linear = ops.linear(weight.clone(), None, activation)
    assert linear.out_features == out_features
    assert_within(linear(x), bounded_linear(x, weight, None, activation))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("in_features", "num_tokens"), [(3072, 24), (768, 700)])
def test_long_sums_and_many_rows(ops: Ops, in_features: int, num_tokens: int, dtype: torch.dtype) -> None:
    """Depth and rows are cut into parts; each cut must be seen here."""
    x, weight = torch.randn(num_tokens, in_features).to(dtype), drawn(100, in_features, dtype=dtype)
    assert_within(ops.linear(weight.clone())(x), bounded_linear(x, weight, None, "none"))


def test_rows_may_lie_apart(ops: Ops) -> None:
    wide, weight = torch.randn(9, 3 * 32), drawn(50, 32, dtype=torch.float32)
    assert_within(
        ops.linear(weight.clone())(wide[:, 32:64]), bounded_linear(wide[:, 32:64], weight, None, "none")
    )


def test_no_rows(ops: Ops) -> None:
    linear = ops.linear(torch.randn(20, 8))
    assert linear(torch.empty(0, 8)).shape == (0, 20)
    assert linear.argmax(torch.empty(0, 8)).shape == (0,)


@pytest.mark.parametrize("num_tokens", [1, 7, 90])
def test_argmax_is_that_of_the_product(ops: Ops, num_tokens: int) -> None:
    x, weight = torch.randn(num_tokens, 64), torch.randn(1000, 64)
    bias = torch.randn(1000)
    assert_largest(ops.linear(weight.clone(), bias).argmax(x), x, weight, bias)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_argmax_takes_the_first_of_equals(ops: Ops, num_threads: int) -> None:
    """Small integers, so that equal outputs are equal to the last bit, far apart and in every panel."""
    torch.set_num_threads(num_threads)
    weight = torch.randint(-1, 2, (3000, 64)).float()
    x = torch.randint(-1, 2, (20, 64)).float()
    weight[2500:2600] = weight[100:200]
    exact = x @ weight.T
    first = torch.tensor([int((row == row.max()).nonzero()[0]) for row in exact])
    assert torch.equal(ops.linear(weight.clone()).argmax(x), first)


def test_argmax_where_every_output_is_negative(ops: Ops) -> None:
    """The padding of the last panel is zero, and must not win."""
    weight = -torch.rand(50, 16) - 0.1
    x = torch.rand(3, 16) + 0.1
    assert_largest(ops.linear(weight.clone()).argmax(x), x, weight, None)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_the_product(native: Ops, dtype: torch.dtype) -> None:
    x, weight = torch.randn(50, 128).to(dtype), drawn(700, 128, dtype=dtype)
    linear = native.linear(weight.clone())
    one = linear(x)
    for num_threads in (2, 5):
        torch.set_num_threads(num_threads)
        assert torch.equal(linear(x), one)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.randn(2, 9), ValueError, "x has 9 columns, and the weight takes 8"),
        (torch.randn(2, 8).double(), TypeError, "x must have the dtype of the weight, float32"),
        (torch.randn(8), ValueError, "x must have two dimensions"),
        (torch.randn(8, 8).t(), ValueError, "the rows of x must be contiguous"),
    ],
)
def test_errors(native: Ops, x: Tensor, error: type[Exception], message: str) -> None:
    linear = native.linear(torch.randn(20, 8))
    if type(linear).__name__ != "NativeLinear":
        pytest.skip("this processor has no panels")
    if x.dim() == 1:
        x = x[:, None].expand(8, 8)[0]
    with pytest.raises(error, match=message):
        linear.argmax(x)
