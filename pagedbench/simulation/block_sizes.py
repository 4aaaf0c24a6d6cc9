"""BlockSizeTimes: the time of decoding attention by block size, the same rule for all cost models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

USUAL_BLOCK_SIZE = 16
"""Tokens per block in the paper's measurements and in published step times of vLLM."""

PAGED_FACTOR = 1.23
"""Time of paged decoding attention at that size over contiguous (20-26 % more: paper, section 7.1)."""


@dataclass(frozen=True, slots=True)
class BlockSizeTimes:
    """The time of paged decoding attention, as a multiple of the time of contiguous attention.

    Attributes:
        factors: the multiple by block size. It is interpolated over the logarithm of the size, and constant
            beyond the smallest and largest size.
        source: the source of the multiples, in words.
    """

    factors: Mapping[int, float]
    source: str

    def at(self, block_size: int) -> float:
        """The multiple at a block size."""
        sizes = sorted(self.factors)
        known = [self.factors[size] for size in sizes]
        return float(np.interp(math.log2(block_size), [math.log2(size) for size in sizes], known))

    def words(self, block_size: int) -> str:
        """The multiple and its source, in words."""
        return f"{self.at(block_size):.3g} x contiguous at blocks of {block_size}; {self.source}"


STATED = BlockSizeTimes(
    {size: 1 + (PAGED_FACTOR - 1) * USUAL_BLOCK_SIZE / size for size in (1, 2, 4, 8, USUAL_BLOCK_SIZE)},
    f"from the paper's {PAGED_FACTOR:g} x at {USUAL_BLOCK_SIZE} (section 7.1), assuming that a smaller "
    "block has the same cost besides its tokens, and that larger ones change nothing",
)
"""The multiples of simulated cards.

The paper measured its kernel only at blocks of 16. The 23 % are block-table lookups and branches. If their
number per block does not depend on its size, blocks of 8 need twice as many. Section 7.2 says of whole runs
that blocks of 1 to 8 are slower, and blocks above 16 not faster. Kernels of later engines may be better at
small blocks (FlashInfer's supports blocks of 1).
"""
