"""The packed product of plain PyTorch, on processors of all kinds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from pagedbench.ops.linear import ACTIVATIONS, linear


def activated(product: torch.Tensor, activation: str) -> torch.Tensor:
    if activation == "silu_gated":
        gate, up = product.chunk(2, dim=-1)
        return F.silu(gate) * up
    if activation.startswith("gelu"):
        return F.gelu(product, approximate="tanh" if activation == "gelu_tanh" else "none")
    return product.relu() if activation == "relu" else product


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("has_bias", [False, True])
def test_every_activation(activation: str, has_bias: bool, dtype: torch.dtype) -> None:
    weight, bias = torch.randn(32, 24).to(dtype), torch.randn(32).to(dtype)
    x = torch.randn(5, 24).to(dtype)
    layer = linear(weight, bias if has_bias else None, activation)
    assert layer.out_features == (16 if activation == "silu_gated" else 32)
    plain = F.linear(x, weight, bias if has_bias else None)
    wide = F.linear(x.double(), weight.double(), bias.double() if has_bias else None)
    exact = activated(wide, activation)
    out = layer(x)
    assert out.dtype == dtype
    torchs = (activated(plain, activation).double() - exact).abs().max()
    assert (out.double() - exact).abs().max() <= 2 * torchs + 1e-5
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
