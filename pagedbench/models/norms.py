"""Which norms of a transformers model our operations compute: found by comparing results, not names."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pagedbench.ops import reference

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.interface import Ops

EPSILONS = ("eps", "variance_epsilon", "epsilon")
TOLERANCE = 1e-5
"""Tolerance relative to the result, in float32: different formulas are further apart."""


@dataclass(frozen=True, slots=True)
class NormFormula:
    """What a norm computes: (x - mean if centred) / deviation * (weight + offset) + bias.

    `offset` is 1 where weights are stored around 0 (Gemma), else 0.
    """

    is_centred: bool
    epsilon: float
    offset: float

    def compute(self, ops: Ops, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The norm of `x` with a weight that includes the offset.  # [num_tokens, size]"""
        if self.is_centred:
            return ops.layer_norm(x, None, weight, bias, self.epsilon)
        return ops.rms_norm(x, None, weight, self.epsilon)


class PackedNorm(nn.Module):
    """A norm by our operation."""

    def __init__(self, formula: NormFormula, weight: Tensor, bias: Tensor | None, ops: Ops) -> None:
        super().__init__()
        self._formula = formula
        self._weight = (weight.float() + formula.offset).to(weight.dtype)  # [size], rounded once
        self._bias = bias  # [size]
        self._ops = ops
        self.size = len(weight)

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] both"""
        rows = x.reshape(-1, x.shape[-1])
        return self._formula.compute(self._ops, rows, self._weight, self._bias).view(x.shape)


def replace_norms(model: nn.Module, ops: Ops) -> None:
    """Replace the norms in `model` that our operations compute; others stay."""
    known: dict[tuple[object, ...], NormFormula | None] = {}
    for parent in list(model.modules()):
        child: Any
        for name, child in list(parent.named_children()):
            formula = formula_of(child, known)
            if formula is not None:
                setattr(parent, name, packed_norm(child, formula, ops))


def packed_norm(module: Any, formula: NormFormula, ops: Ops) -> PackedNorm:
    """The norm by our operation."""
    bias = getattr(module, "bias", None)
    return PackedNorm(formula, module.weight.detach(), None if bias is None else bias.detach(), ops)


def formula_of(
    module: Any, known: dict[tuple[object, ...], NormFormula | None] | None = None
) -> NormFormula | None:
    """What a norm computes; None for other modules and for norms that our operations do not compute.

    Args:
        known: answers by class and settings of modules; new ones are added.
    """
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    epsilon = next((getattr(module, name) for name in EPSILONS if hasattr(module, name)), None)
    if not isinstance(epsilon, float) or weight is None or weight.dim() != 1 or list(module.children()):
        return None
    known = {} if known is None else known
    key = (type(module), epsilon, bias is None, len(weight))
    if key not in known:
        known[key] = _compare(module, epsilon, len(weight), has_bias=bias is not None)
    return known[key]


def _compare(module: Any, epsilon: float, size: int, *, has_bias: bool) -> NormFormula | None:
    generator = torch.Generator().manual_seed(0)
    # Small, so that epsilon matters; not around 0, so that the mean does.  [4, size]
    x = (torch.rand(4, size, generator=generator) - 0.2) * epsilon**0.5 * 10
    weight, bias = torch.rand(2, size, generator=generator)
    trial = copy.deepcopy(module)
    trial.weight = nn.Parameter(weight.clone(), requires_grad=False)
    if has_bias:
        trial.bias = nn.Parameter(bias.clone(), requires_grad=False)
    try:
        result = trial(x.clone())
    except (TypeError, RuntimeError, ValueError):  # it takes something else: another kind of norm
        return None
    for formula in (NormFormula(c, epsilon, o) for c in (False, True) for o in (0.0, 1.0)):
        expected = formula.compute(
            reference, x.clone(), weight + formula.offset, bias if has_bias else None
        )
        if (formula.is_centred or not has_bias) and torch.allclose(result, expected, rtol=TOLERANCE):
            return formula
    return None
