"""Every op's cases: variants agree with the definition, spoiled ones do not, and the work is right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pagedbench.ops import reference
from pagedbench.ops.select import select_ops
from pagedbench.tools.kernels.cases import TORCH, Accuracy
from pagedbench.tools.kernels.options import POOL_OPS
from pagedbench.tools.kernels.plan import OPERATIONS, Planned
from tools.kernels.small import LLAMA, OPT, shorter, small_setup, spoiled

if TYPE_CHECKING:
    from pagedbench.simulation.shapes import ModelShape

SIZES = {"decode": (3, 37), "prefill": (2, 37), "write": (3, 1), "rotate_write": (3, 1), "copy": (2, 37),
         "swap": (2, 37)}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [OPT, LLAMA], ids=lambda shape: shape.name)
@pytest.mark.parametrize("op", OPERATIONS)
def test_every_variant_is_right(op: str, shape: ModelShape, dtype: torch.dtype) -> None:
    kernels = [select_ops("cpu", name, dtype) for name in ("auto", "reference")]
    setup = small_setup(shape, dtype, tuple(kernels))
    case = OPERATIONS[op].build(setup, *SIZES.get(op, (5, 1)))
    names = [(variant.kernels, variant.form, variant.block_size) for variant in case.variants]
    assert len(set(names)) == len(names) or kernels[0] is kernels[1]
    assert names[-1][0] == TORCH
    assert case.num_sets > 1
    for variant in case.variants:
        assert case.check(variant).is_met, variant.name
        for number in (0, case.num_sets - 1):
            variant.run(number)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("op", POOL_OPS)
def test_every_variant_is_right_in_8_bits(op: str, dtype: torch.dtype) -> None:
    kernels = [select_ops("cpu", name, dtype) for name in ("auto", "reference")]
    planned = Planned(op, *SIZES.get(op, (5, 1)), kv_dtype="int8")
    setup = small_setup(LLAMA, dtype, tuple(kernels))
    case, wide = planned.build(setup), replace(planned, kv_dtype="auto").build(setup)
    for variant in case.variants:
        assert case.check(variant).is_met, variant.name
    assert case.work.num_bytes < wide.work.num_bytes


def test_prompts_are_written_too() -> None:
    for op in ("write", "rotate_write"):
        case = OPERATIONS[op].build(small_setup(), 1, 40)
        assert all(case.check(variant).is_met for variant in case.variants)


def other_slots(key: Any, value: Any, keys: Any, values: Any, slots: Any) -> None:
    """Writes what is asked for, and one slot more."""
    reference.write_kv(key, value, keys, values, slots)
    keys[(int(slots[0]) + 1) % len(keys)] = 0.5


def unrotated(query: Any, key: Any, value: Any, keys: Any, values: Any, slots: Any, *angles: Any) -> None:
    reference.write_kv(key, value, keys, values, slots)


def first_run(sources: Any, destinations: Any, runs: Any) -> None:
    reference.copy_runs(sources, destinations, runs[:1])


def stale_norm(hidden: Any, delta: Any, *rest: Any) -> Any:
    """Right, but the residual stream stays behind."""
    return reference.layer_norm(hidden + delta, None, *rest)


def causal_slip(query: Any, *arguments: Any) -> Any:
    out = reference.attend_prefill(query, *arguments)
    out[-1] = out[-2]
    return out


class Second:
    """A product whose greedy token is the second best, and that forgets its activation."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, activation: str) -> None:
        self.out_features = len(weight)
        self._linear = reference.linear(weight, bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._linear(x)

    def argmax(self, x: torch.Tensor) -> torch.Tensor:
        return self(x).topk(2).indices[:, 1]


SPOILED = {
    "decode": {"attend_decode": shorter},
    "prefill": {"attend_prefill": causal_slip},
    "write": {"write_kv": other_slots},
    "rotate_write": {"rotate_and_write_kv": unrotated},
    "copy": {"copy_runs": first_run},
    "swap": {"copy_runs": first_run},
    "norm": {"layer_norm": stale_norm},
    "activation": {"linear": Second},
    "argmax": {"linear": Second},
}


@pytest.mark.parametrize("op", SPOILED)
def test_a_wrong_kernel_is_found(op: str) -> None:
    setup = small_setup(kernels=(spoiled(**SPOILED[op]),))
    case = OPERATIONS[op].build(setup, *SIZES.get(op, (5, 1)))
    met = [case.check(variant).is_met for variant in case.variants]
    assert not all(met)
    assert met[-1], "plain PyTorch is right"


def test_nothing_and_infinity_are_wrong() -> None:
    def nothing(query: torch.Tensor, *arguments: Any) -> torch.Tensor:
        return torch.full_like(query, float("nan"))

    case = OPERATIONS["decode"].build(small_setup(kernels=(spoiled(attend_decode=nothing),)), 2, 20)
    assert [case.check(variant).is_met for variant in case.variants] == [False, False, False, True]
    assert not Accuracy(1.0, float("nan")).is_met


def test_work_of_attention() -> None:
    setup = small_setup(LLAMA)  # 4 heads and 2 KV heads of 8 floats
    decode = OPERATIONS["decode"].build(setup, 3, 10).work
    assert decode.num_bytes == 3 * (10 * 2 * 2 * 8 * 4 + 2 * 4 * 8 * 4 + 4)
    assert decode.flops == 3 * 10 * 4 * 8 * 2 * 2
    prefill = OPERATIONS["prefill"].build(setup, 3, 10).work
    assert prefill.flops == 3 * 55 * 4 * 8 * 2 * 2


def test_work_of_the_rest() -> None:
    setup = small_setup()  # 4 heads of 8 floats, 32 wide, 64 in the feed-forward
    assert OPERATIONS["write"].build(setup, 3, 1).work.num_bytes == 3 * 2 * 32 * 4
    assert OPERATIONS["copy"].build(setup, 3, 10).work.num_bytes == 2 * 3 * 10 * 2 * 32 * 4
    linear = OPERATIONS["linear"].build(setup, 5, 1).work
    assert (linear.num_bytes, linear.flops) == ((32 * 64 + 64 + 5 * 32 + 5 * 64) * 4, 2 * 5 * 32 * 64)
