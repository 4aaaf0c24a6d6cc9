"""BlockSizeTimes: what decode attention takes over blocks of a size; the one rule of all cost models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

USUAL_BLOCK_SIZE = 16
"""Tokens a block where the paper, and those who published step times of vLLM, measured."""

PAGED_FACTOR = 1.23
"""What paged decoding attention takes of contiguous one's time there (20-26 % more: paper, section 7.1)."""


@dataclass(frozen=True, slots=True)
class BlockSizeTimes:
    """The time of paged decoding attention, as a multiple of contiguous one's.

    Attributes:
        factors: tokens a block -> multiple. Between two sizes it is straight over the logarithm, outside
            of them as at the nearest.
        source: where they come from, in words.
    """

    factors: Mapping[int, float]
    source: str

    def at(self, block_size: int) -> float:
        """The multiple at a block size."""
        sizes = sorted(self.factors)
        known = [self.factors[size] for size in sizes]
        return float(np.interp(math.log2(block_size), [math.log2(size) for size in sizes], known))

    def words(self, block_size: int) -> str:
        """The multiple with its source, for the header."""
        return f"{self.at(block_size):.3g} x contiguous at blocks of {block_size}; {self.source}"


STATED = BlockSizeTimes(
    {size: 1 + (PAGED_FACTOR - 1) * USUAL_BLOCK_SIZE / size for size in (1, 2, 4, 8, USUAL_BLOCK_SIZE)},
    f"from the paper's {PAGED_FACTOR:g} x at {USUAL_BLOCK_SIZE} (section 7.1), assuming that each "
    "smaller block takes as much beside its tokens, and that larger ones change nothing",
)
"""Of simulated cards.

The paper measured its kernel at blocks of 16 alone. The 23 % are block-table lookups and branches; if a
block costs them whatever its size, blocks of 8 cost twice as many. That blocks of 1 to 8 are slower, and
those above 16 no faster, is what its section 7.2 says of whole runs; kernels of later engines may be
better at small blocks (FlashInfer's takes blocks of 1).
"""
