"""What is measured: an op at one size, every way to compute it, and its least bytes and FLOPs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pagedbench.simulation.shapes import SCALE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import Tensor

    from pagedbench.ops.accuracy import Bounded
    from pagedbench.ops.interface import Ops
    from pagedbench.simulation.shapes import ModelShape

    Run = Callable[[int], Any]
    """Computes an op once, on the set of operands with the given number."""

TORCH = "torch"
"""The kernels of plain PyTorch, with which every op is compared."""


class Form(StrEnum):
    """How keys and values are stored, if an op is fused with the next, or how a step's moves are made."""

    PAGED = "paged"
    CONTIGUOUS = "contiguous"
    DENSE = "dense"
    FUSED = "fused"
    SEPARATE = "separate"
    PACKED = "packed"
    PLAIN = "plain"
    GATHERED = "gathered"
    BY_BLOCK = "block by block"


class WrongOutput(Exception):
    """A kernel's output differs from the reference's, so its time would mean nothing. One sentence."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What all cases of a run have in common.

    Attributes:
        kv_dtype: of keys and values in the pool; None: that of everything else.
        footprint: the least bytes of all operands that calls use in turn: more than the last-level cache,
            so that keys, values and weights come from memory.
    """

    shape: ModelShape
    dtype: torch.dtype
    device: str
    kernels: tuple[Ops, ...]
    block_sizes: tuple[int, ...]
    footprint: int
    kv_dtype: torch.dtype | None = None

    @property
    def cache_dtype(self) -> torch.dtype:
        return self.kv_dtype or self.dtype

    @property
    def kv_row_bytes(self) -> int:
        """Bytes of one token's key and value in one layer, scales included."""
        layer = replace(self.shape, num_layers=1)
        scale_size = 0 if self.kv_dtype is None else SCALE_SIZE
        return layer.kv_bytes_per_token(self.cache_dtype.itemsize, scale_size=scale_size)

    @property
    def query_row_bytes(self) -> int:
        """Bytes of one token's query, or of its attention's output."""
        return self.shape.num_heads * self.shape.head_dim * self.dtype.itemsize

    @property
    def heads(self) -> str:
        """Query heads / KV heads x size, for the reader."""
        shape = self.shape
        return f"{shape.num_heads}/{shape.num_kv_heads}x{shape.head_dim}"

    def num_sets(self, bytes_per_call: int) -> int:
        """Sets of operands that fill the footprint together."""
        return max(-(-self.footprint // bytes_per_call), 1)

    def random(self, *size: int) -> Tensor:
        """Normally distributed numbers of the run's dtype on its device."""
        import torch

        return torch.empty(size, dtype=self.dtype, device=self.device).normal_()

    def stored(self, x: Tensor) -> Tensor:
        """New tokens in the pool's dtype: unchanged, or in 8 bits.  # [..., head_dim or more]"""
        from pagedbench.ops.quantized import quantized

        return x if self.kv_dtype is None else quantized(x)

    def fill(self, caches: Sequence[Tensor]) -> None:
        """Fill all slots with normal numbers.  # [num_slots, num_kv_heads, head_dim or more] each"""
        for cache in caches:
            if self.kv_dtype is None:
                cache.normal_()
            else:
                cache.copy_(self.stored(self.random(*cache.shape[:2], self.shape.head_dim)))


@dataclass(frozen=True, slots=True)
class Work:
    """The least bytes that must pass between memory and processor, and the least FLOPs."""

    num_bytes: int
    flops: int = 0


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The largest error of an output, and the largest error as a share of the element's error bound."""

    max_error: float
    share: float

    @property
    def is_met(self) -> bool:
        return self.share <= 1  # false for NaN


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compute an op.

    Attributes:
        block_size: None if keys and values are not in blocks.
        is_whole: does it do all of the case's work? Otherwise the least time for that is no limit.
    """

    kernels: str
    form: Form
    run: Run
    block_size: int | None = None
    is_whole: bool = True

    @property
    def name(self) -> str:
        blocks = "" if self.block_size is None else f", blocks of {self.block_size}"
        return f"{self.kernels}, {self.form}{blocks}"


@dataclass(frozen=True, slots=True)
class Case:
    """An op at one size: `batch` sequences of `context` tokens.

    Attributes:
        num_sets: sets of operands that calls use in turn, so that no call finds in a cache what an earlier
            one has read.
        check: computes a variant and compares its output with the definition.
    """

    op: str
    batch: int
    context: int
    shape: str
    work: Work
    num_sets: int
    variants: Sequence[Variant]
    check: Callable[[Variant], Accuracy]


def accuracy(out: Tensor, expected: Bounded) -> Accuracy:
    """The accuracy of `out`: its errors, absolute and as shares of the bounds in `expected`."""
    return Accuracy(float((out.double() - expected.exact).abs().max()), expected.share(out))


def equality(out: Sequence[Tensor], expected: Sequence[Tensor]) -> Accuracy:
    """The accuracy of outputs that must be equal."""
    pairs = zip(out, expected, strict=True)
    error = max(float((one.double() - other.double()).abs().max()) for one, other in pairs)
    return Accuracy(error, 0.0 if error == 0 else math.inf)
