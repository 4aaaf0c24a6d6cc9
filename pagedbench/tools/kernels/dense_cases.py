"""What a layer does besides attention: residual and norm, products with an epilogue, the greedy token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.tools.kernels.cases import TORCH, Accuracy, Case, Variant, Work, accuracy, equality

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from pagedbench.ops.accuracy import Bounded
    from pagedbench.ops.interface import Linear, Ops
    from pagedbench.tools.kernels.cases import Setup

EPSILON = 1e-5
INT64_BYTES = 8
ACTIVATIONS = {"opt": "relu", "llama": "silu_gated"}
"""Between the two products of the feed-forward, by family."""


def norm_case(setup: Setup, batch: int, context: int) -> Case:
    """Residual and norm of `batch` x `context` tokens: in one op, and in two."""
    num_rows, size = batch * context, setup.shape.hidden_size
    num_sets = setup.num_pools(2 * num_rows * size * setup.dtype.itemsize)
    rows = _Rows(
        setup.random(num_sets, num_rows, size),
        setup.random(num_sets, num_rows, size),
        setup.random(size),
        None if setup.shape.family == "llama" else setup.random(size),
    )
    runs = [(ops.name, "fused", rows.norm_by(ops)) for ops in setup.kernels]
    runs.append((TORCH, "separate", rows.norm_in_two))
    variants = tuple(Variant(name, form, run, rows.check_of(run)) for name, form, run in runs)
    affine = 1 if rows.bias is None else 2
    work = Work((4 * num_rows + affine) * size * setup.dtype.itemsize)
    return Case("norm", batch, context, str(size), work, num_sets, variants)


def linear_case(setup: Setup, batch: int, context: int) -> Case:
    """The feed-forward's first product with its bias, and no activation."""
    products = _Products(setup, batch * context, setup.shape.ffn_size)
    runs = [(ops.name, "packed", products.packed(ops, "none")) for ops in setup.kernels]
    runs.append((TORCH, "plain", products.plain))
    return products.case("linear", batch, context, "none", runs)


def activation_case(setup: Setup, batch: int, context: int) -> Case:
    """The same product with its activation: in the product's epilogue, and in an op of its own."""
    activation = ACTIVATIONS[setup.shape.family]
    products = _Products(setup, batch * context, setup.shape.ffn_size * (1 + (activation == "silu_gated")))

    def apart(run: Callable[[int], Tensor]) -> Callable[[int], Tensor]:
        return lambda pool: _activated(run(pool), activation)

    runs = [(ops.name, "fused", products.packed(ops, activation)) for ops in setup.kernels]
    runs += [(ops.name, "separate", apart(products.packed(ops, "none"))) for ops in setup.kernels]
    runs.append((TORCH, "separate", apart(products.plain)))
    return products.case("activation", batch, context, activation, runs)


def argmax_case(setup: Setup, batch: int, context: int) -> Case:
    """The greedy token of each row: inside the head's product, and after it."""
    products = _Products(setup, batch * context, setup.shape.vocab_size, has_bias=False)
    variants = []
    for ops in setup.kernels:
        heads = products.pack(ops, "none")
        variants += [
            products.argmax_variant(ops.name, "fused", _argmax_of(heads, products.x)),
            products.argmax_variant(ops.name, "separate", _logits_argmax_of(heads, products.x)),
        ]
    plain = products.plain
    variants.append(products.argmax_variant(TORCH, "separate", lambda pool: plain(pool).argmax(dim=-1)))
    work = products.work(batch * context * INT64_BYTES)
    return Case("argmax", batch, context, products.shape, work, products.num_sets, tuple(variants))


@dataclass(frozen=True, slots=True)
class _Rows:
    """The residual stream and what is added to it, a set of rows for each call in rotation."""

    hidden: Tensor  # [num_sets, num_rows, size]
    delta: Tensor  # [num_sets, num_rows, size]
    weight: Tensor  # [size]
    bias: Tensor | None  # [size]; None: the norm is the root mean square's

    def norm_by(self, ops: Ops) -> Callable[[int], Tensor]:
        hidden, delta, weight, bias = self.hidden, self.delta, self.weight, self.bias
        if bias is None:
            return lambda pool: ops.rms_norm(hidden[pool], delta[pool], weight, EPSILON)
        return lambda pool: ops.layer_norm(hidden[pool], delta[pool], weight, bias, EPSILON)

    def norm_in_two(self, pool: int) -> Tensor:
        """An addition, and then PyTorch's own norm."""
        import torch.nn.functional as F

        rows = self.hidden[pool].add_(self.delta[pool])
        if self.bias is None:
            return F.rms_norm(rows, rows.shape[-1:], self.weight, EPSILON)
        return F.layer_norm(rows, rows.shape[-1:], self.weight, self.bias, EPSILON)

    def check_of(self, run: Callable[[int], Tensor]) -> Callable[[], Accuracy]:
        """The residual stream bit for bit, and its norm."""

        def check() -> Accuracy:
            from pagedbench.ops.accuracy import bounded_norm

            hidden, delta = self.hidden[-1], self.delta[-1]
            hidden.copy_(delta.flip(0))  # sums of earlier calls grow, and blur the norm
            summed = hidden + delta
            out = run(len(self.hidden) - 1)
            stream = equality([hidden], [summed])
            is_rms = self.bias is None
            norm = accuracy(out, bounded_norm(summed, self.weight, self.bias, EPSILON, is_rms=is_rms))
            return norm if stream.is_met else stream

        return check


class _Products:
    """The same rows times one weight after another: the weights come from memory, the rows are at hand."""

    def __init__(self, setup: Setup, num_rows: int, out_features: int, *, has_bias: bool = True) -> None:
        size, element_size = setup.shape.hidden_size, setup.dtype.itemsize
        self.num_sets = setup.num_pools(out_features * size * element_size)
        self.x = setup.random(num_rows, size)
        self.weights = [setup.random(out_features, size) for _ in range(self.num_sets)]
        self.bias = setup.random(out_features) if has_bias else None
        self.shape = f"{size}>{out_features}"
        self._fixed_bytes = (size * (out_features + num_rows) + out_features * has_bias) * element_size
        self._flops = 2 * num_rows * size * out_features

    def work(self, out_bytes: int) -> Work:
        """Weight, bias and rows are read, `out_bytes` written."""
        return Work(self._fixed_bytes + out_bytes, self._flops)

    def pack(self, ops: Ops, activation: str) -> list[Linear]:
        return [ops.linear(weight.clone(), self.bias, activation) for weight in self.weights]

    def packed(self, ops: Ops, activation: str) -> Callable[[int], Tensor]:
        linears, x = self.pack(ops, activation), self.x
        return lambda pool: linears[pool](x)

    def plain(self, pool: int) -> Tensor:
        import torch.nn.functional as F

        return F.linear(self.x, self.weights[pool], self.bias)

    def expected(self, activation: str) -> Bounded:
        """Of the last set."""
        from pagedbench.ops.accuracy import bounded_linear

        return bounded_linear(self.x, self.weights[-1], self.bias, activation)

    def case(
        self,
        op: str,
        batch: int,
        context: int,
        activation: str,
        runs: Sequence[tuple[str, str, Callable[[int], Tensor]]],
    ) -> Case:
        """`runs`: kernels, form and call."""

        def check_of(run: Callable[[int], Tensor]) -> Callable[[], Accuracy]:
            def check() -> Accuracy:
                return accuracy(run(self.num_sets - 1), self.expected(activation))

            return check

        variants = tuple(Variant(name, form, run, check_of(run)) for name, form, run in runs)
        out_features = len(self.weights[0]) // (2 if activation == "silu_gated" else 1)
        work = self.work(len(self.x) * out_features * self.x.element_size())
        return Case(op, batch, context, self.shape, work, self.num_sets, variants)

    def argmax_variant(self, kernels: str, form: str, run: Callable[[int], Tensor]) -> Variant:
        def check() -> Accuracy:
            """By how much a chosen output misses the largest: both may be wrong, in opposite ways."""
            expected, chosen = self.expected("none"), run(self.num_sets - 1)[:, None]
            largest = expected.exact.argmax(dim=1, keepdim=True)
            misses = expected.exact.gather(1, largest) - expected.exact.gather(1, chosen)  # [num_rows, 1]
            allowed = expected.error.gather(1, largest) + expected.error.gather(1, chosen)
            return Accuracy(float(misses.max()), float((misses / allowed).max()))

        return Variant(kernels, form, run, check)


def _argmax_of(heads: Sequence[Linear], x: Tensor) -> Callable[[int], Tensor]:
    return lambda pool: heads[pool].argmax(x)


def _logits_argmax_of(heads: Sequence[Linear], x: Tensor) -> Callable[[int], Tensor]:
    return lambda pool: heads[pool](x).argmax(dim=-1)


def _activated(product: Tensor, activation: str) -> Tensor:
    """In plain PyTorch, in an op of its own."""
    import torch.nn.functional as F

    if activation == "silu_gated":
        gate, up = product.chunk(2, dim=-1)
        return F.silu(gate) * up
    return F.relu(product) if activation == "relu" else product
