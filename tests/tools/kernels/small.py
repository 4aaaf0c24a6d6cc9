"""Shapes and kernels so small that a case takes milliseconds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch

from pagedbench.ops import reference
from pagedbench.ops.select import select_ops
from pagedbench.simulation.shapes import ModelShape
from pagedbench.tools.kernels.cases import Setup

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.ops.interface import Ops

OPT = ModelShape("small-opt", "opt", 2, 32, 4, 4, 8, 64, 97, 128)
LLAMA = ModelShape("small-llama", "llama", 2, 32, 4, 2, 8, 48, 97, 128, tied_embeddings=False)


def small_setup(
    shape: ModelShape = OPT,
    dtype: torch.dtype = torch.float32,
    kernels: tuple[Ops, ...] | None = None,
    block_sizes: tuple[int, ...] = (1, 16),
) -> Setup:
    """On the CPU, with the reference unless `kernels` are given."""
    return Setup(
        shape, dtype, "cpu", kernels or (select_ops("cpu", "reference"),), block_sizes, footprint=100_000
    )


def spoiled(**replaced: Callable[..., Any]) -> Ops:
    """The reference, with some of its operations replaced."""
    names = (name for name in dir(reference) if not name.startswith("_"))
    ops = {name: getattr(reference, name) for name in names}
    return cast("Ops", SimpleNamespace(**{**ops, **replaced, "name": "spoiled"}))


def shorter(query: Any, keys: Any, values: Any, addresses: Any, lens: Any, scale: float) -> Any:
    """Forgets the newest token."""
    return reference.attend_decode(query, keys, values, addresses, lens - 1, scale)
