"""The parts of a model except attention: residual and norm, products with an epilogue, the greedy token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pagedbench.tools.kernels.cases import TORCH, Accuracy, Case, Form, Variant, Work, accuracy, equality

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from pagedbench.ops.accuracy import Bounded
    from pagedbench.ops.interface import Linear, Ops
    from pagedbench.tools.kernels.cases import Run, Setup

EPSILON = 1e-5
INT64_BYTES = 8
ACTIVATIONS = {"opt": "relu", "llama": "silu_gated"}
"""Family -> the activation between the two products of the feed-forward."""


def norm_case(setup: Setup, batch: int, context: int) -> Case:
    """Residual and norm of `batch` x `context` tokens: in one op, or in two."""
    num_rows, size = batch * context, setup.shape.hidden_size
    num_sets = setup.num_sets(2 * num_rows * size * setup.dtype.itemsize)
    rows = _Rows(
        setup.random(num_sets, num_rows, size),
        setup.random(num_sets, num_rows, size),
        setup.random(size),
        None if setup.shape.family == "llama" else setup.random(size),
    )
    variants = [Variant(ops.name, Form.FUSED, rows.norm_by(ops)) for ops in setup.kernels]
    variants.append(Variant(TORCH, Form.SEPARATE, rows.norm_in_two))
    affine = 1 if rows.bias is None else 2
    work = Work((4 * num_rows + affine) * size * setup.dtype.itemsize)
    return Case("norm", batch, context, str(size), work, num_sets, variants, rows.check)


def linear_case(setup: Setup, batch: int, context: int) -> Case:
    """The feed-forward's first product with its bias, and no activation."""
    products = _Products(setup, batch, context, setup.shape.ffn_size)
    variants = [Variant(ops.name, Form.PACKED, products.packed(ops, "none")) for ops in setup.kernels]
    variants.append(Variant(TORCH, Form.PLAIN, products.plain))
    return products.case("linear", products.out_bytes, variants, partial(products.check, activation="none"))


def activation_case(setup: Setup, batch: int, context: int) -> Case:
    """The same product with its activation: in the product's epilogue, or in a separate op."""
    kind = ACTIVATIONS[setup.shape.family]
    halves = 2 if kind == "silu_gated" else 1
    products = _Products(setup, batch, context, halves * setup.shape.ffn_size)
    variants = [Variant(ops.name, Form.FUSED, products.packed(ops, kind)) for ops in setup.kernels]
    products_alone = [(ops.name, products.packed(ops, "none")) for ops in setup.kernels]
    variants += [
        Variant(name, Form.SEPARATE, _activated(run, kind))
        for name, run in (*products_alone, (TORCH, products.plain))
    ]
    check = partial(products.check, activation=kind)
    return products.case("activation", products.out_bytes // halves, variants, check)


def argmax_case(setup: Setup, batch: int, context: int) -> Case:
    """The greedy token of each row: inside the head's product, which may be done in part, or after it."""
    products = _Products(setup, batch, context, setup.shape.vocab_size, has_bias=False)
    variants = []
    for ops in setup.kernels:
        heads = products.pack(ops, "none")
        fused, separate = _argmax(heads, products.x), _argmax_of(_product(heads, products.x))
        variants += [
            Variant(ops.name, Form.FUSED, fused, is_whole=False),
            Variant(ops.name, Form.SEPARATE, separate),
        ]
    variants.append(Variant(TORCH, Form.SEPARATE, _argmax_of(products.plain)))
    return products.case("argmax", batch * context * INT64_BYTES, variants, products.check_argmax)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The residual stream and what is added to it; calls use the sets of rows in turn."""

    hidden: Tensor  # [num_sets, num_rows, size]
    delta: Tensor  # [num_sets, num_rows, size]
    weight: Tensor  # [size]
    bias: Tensor | None  # [size]; None: the norm is the root mean square's

    def norm_by(self, ops: Ops) -> Run:
        hidden, delta, weight, bias = self.hidden, self.delta, self.weight, self.bias
        if bias is None:
            return lambda number: ops.rms_norm(hidden[number], delta[number], weight, EPSILON)
        return lambda number: ops.layer_norm(hidden[number], delta[number], weight, bias, EPSILON)

    def norm_in_two(self, number: int) -> Tensor:
        """Add, then compute PyTorch's own norm."""
        import torch.nn.functional as F

        rows = self.hidden[number].add_(self.delta[number])
        if self.bias is None:
            return F.rms_norm(rows, rows.shape[-1:], self.weight, EPSILON)
        return F.layer_norm(rows, rows.shape[-1:], self.weight, self.bias, EPSILON)

    def check(self, variant: Variant) -> Accuracy:
        """Compare the residual stream bit for bit, and its norm within rounding."""
        from pagedbench.ops.accuracy import bounded_norm

        hidden, delta = self.hidden[-1], self.delta[-1]
        hidden.copy_(delta.flip(0))  # the sums of earlier calls have grown, which blurs the norm
        summed = hidden + delta
        out = variant.run(len(self.hidden) - 1)
        stream = equality([hidden], [summed])
        expected = bounded_norm(summed, self.weight, self.bias, EPSILON, is_rms=self.bias is None)
        return accuracy(out, expected) if stream.is_met else stream


class _Products:
    """The same rows times one weight after another: weights come from memory, the rows are in a cache."""

    def __init__(
        self, setup: Setup, batch: int, context: int, out_features: int, *, has_bias: bool = True
    ) -> None:
        size, element_size, num_rows = setup.shape.hidden_size, setup.dtype.itemsize, batch * context
        self.x = setup.random(num_rows, size)
        self.out_bytes = num_rows * out_features * element_size
        self._num_sets = setup.num_sets(out_features * size * element_size)
        self._weights = [setup.random(out_features, size) for _ in range(self._num_sets)]
        self._bias = setup.random(out_features) if has_bias else None
        self._size = (batch, context, f"{size}>{out_features}")
        self._read_bytes = (size * (out_features + num_rows) + out_features * has_bias) * element_size
        self._flops = 2 * num_rows * size * out_features

    def case(
        self, op: str, out_bytes: int, variants: list[Variant], check: Callable[[Variant], Accuracy]
    ) -> Case:
        """The case, which reads weight, bias and rows, and writes `out_bytes`."""
        work = Work(self._read_bytes + out_bytes, self._flops)
        return Case(op, *self._size, work, self._num_sets, variants, check)

    def pack(self, ops: Ops, activation: str) -> list[Linear]:
        return [ops.linear(weight.clone(), self._bias, activation) for weight in self._weights]

    def packed(self, ops: Ops, activation: str) -> Run:
        return _product(self.pack(ops, activation), self.x)

    def plain(self, number: int) -> Tensor:
        import torch.nn.functional as F

        return F.linear(self.x, self._weights[number], self._bias)

    def check(self, variant: Variant, activation: str) -> Accuracy:
        return accuracy(variant.run(self._num_sets - 1), self._expected(activation))

    def check_argmax(self, variant: Variant) -> Accuracy:
        """Check how far a chosen output is below the largest; their errors may have opposite signs."""
        expected, chosen = self._expected("none"), variant.run(self._num_sets - 1)[:, None]
        largest = expected.exact.argmax(dim=1, keepdim=True)
        misses = expected.exact.gather(1, largest) - expected.exact.gather(1, chosen)  # [num_rows, 1]
        allowed = expected.error.gather(1, largest) + expected.error.gather(1, chosen)
        return Accuracy(float(misses.max()), float((misses / allowed).max()))

    def _expected(self, activation: str) -> Bounded:
        """The expected output for the last set."""
        from pagedbench.ops.accuracy import bounded_linear

        return bounded_linear(self.x, self._weights[-1], self._bias, activation)


def _product(linears: Sequence[Linear], x: Tensor) -> Run:
    return lambda number: linears[number](x)


def _argmax(heads: Sequence[Linear], x: Tensor) -> Run:
    return lambda number: heads[number].argmax(x)


def _argmax_of(product: Run) -> Run:
    return lambda number: product(number).argmax(dim=-1)


def _activated(product: Run, activation: str) -> Run:
    """Compute the activation in plain PyTorch, in a separate op."""
    import torch.nn.functional as F

    def gated(number: int) -> Tensor:
        gate, up = product(number).chunk(2, dim=-1)
        return F.silu(gate).mul(up)

    return gated if activation == "silu_gated" else lambda number: F.relu(product(number))
