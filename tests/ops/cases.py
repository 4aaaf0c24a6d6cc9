"""Cases for every backend: all of them; where they are slow or the code is the same, a few that differ."""

from __future__ import annotations

import os
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable


def spread(cases: list[tuple[Any, ...]], number: int) -> list[tuple[Any, ...]]:
    """`number` of the cases, each with the most values, and pairs of values, that none before it has.

    Every value of every parameter is among them.
    """
    left, chosen = list(cases), list[tuple[Any, ...]]()
    met = set[tuple[object, ...]]()

    def num_new(case: tuple[Any, ...]) -> tuple[int, int]:
        values, pairs = parts_of(case)
        return len(values - met), len(pairs - met)

    for _ in range(number):
        best = max(left, key=num_new)
        left.remove(best)
        chosen.append(best)
        met.update(*parts_of(best))
    for some, every in zip(zip(*chosen, strict=True), zip(*cases, strict=True), strict=True):
        assert set(map(repr, some)) == set(map(repr, every)), "these are too few for all values"
    return chosen


def parts_of(case: tuple[Any, ...]) -> tuple[set[tuple[object, ...]], set[tuple[object, ...]]]:
    """The values of a case with their places, and each with each."""
    values = list(enumerate(map(repr, case)))
    return set(values), set(combinations(values, 2))


def on_backends(cases: Iterable[tuple[Any, ...]], few: int) -> list[tuple[Any, ...]]:
    """Backend and case, to be given as the parameters "ops" (indirect) and those of the case.

    Args:
        few: the number of cases for Triton without a GPU, and for an instruction set that was asked for:
            the native kernels are written once for all of them.
    """
    cases = list(cases)
    some = spread(cases, few)
    cases_of = {
        "reference": cases,
        "native": some if "PAGEDBENCH_ISA" in os.environ else cases,
        "triton": cases if torch.cuda.is_available() else some,
    }
    return [(backend, *case) for backend, chosen in cases_of.items() for case in chosen]
