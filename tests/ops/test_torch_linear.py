"""The packed product of plain PyTorch, on processors of all kinds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from ops.exact import assert_within
from pagedbench.ops.accuracy import bounded_linear
from pagedbench.ops.linear import ACTIVATIONS, linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("has_bias", [False, True])
def test_every_activation(activation: str, has_bias: bool, dtype: torch.dtype) -> None:
    weight, bias = torch.randn(32, 24).to(dtype), torch.randn(32).to(dtype)
    x = torch.randn(5, 24).to(dtype)
    layer = linear(weight.clone(), bias if has_bias else None, activation)
    assert layer.out_features == (16 if activation == "silu_gated" else 32)
    out = layer(x)
    assert out.dtype == dtype
    assert_within(out, bounded_linear(x, weight, bias if has_bias else None, activation))
    assert torch.equal(layer.argmax(x), out.argmax(-1))


def test_the_first_of_equals() -> None:
    layer = linear(torch.ones(7, 3))
    assert layer.argmax(torch.ones(2, 3)).tolist() == [0, 0]


def test_the_weight_stays_as_it_was() -> None:
    """A tied embedding reads it, too."""
    weight = torch.randn(32, 24)
    before = weight.clone()
    linear(weight)(torch.randn(3, 24))
    assert torch.equal(weight, before)


def test_bfloat16_on_a_processor_that_does_not_compute_in_it() -> None:
    code = (
        "import torch; from pagedbench.ops.linear import linear; x = torch.ones(3, 32).bfloat16();"
        "assert linear(torch.ones(8, 32).bfloat16())(x).eq(32).all()"
    )
    env = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
