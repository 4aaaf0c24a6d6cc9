"""Seconds of the experts of one layer on a card: a formula fitted to vLLM's fused kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.simulation.operator_times import ELEMENT_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.simulation.cards import Card

    Vector = NDArray[np.float64]

SMALL_TILE, LARGE_TILE = 16, 64
"""Rows of a tile: vLLM uses small ones as long as there are no more tokens than experts."""

TUNED = {
    "a100-80gb": {(8, 1792), (8, 2048), (8, 3584), (8, 4096), (8, 7168), (128, 192)},
    "h100": {(8, 1792), (8, 2048), (8, 3584), (8, 4096), (8, 7168), (128, 192), (256, 512)},
}
"""Card -> (number of experts, size of each on one rank) for which vLLM 0.14 has tuned tiles."""


@dataclass(frozen=True, slots=True)
class ExpertTimes:
    """Two grouped products of all tokens with the experts that the router has chosen for them.

    ```
    time = launch + ((reading + passing)^s + computing^s)^(1/s)      s = 1 + sharpness
    reading:   the matrices of every expert that some token hits, at `bandwidth` of the memory's
    passing:   rows into, between and out of the products, at `passes` of the memory's
    computing: the rows of all tokens, and `fill` more tiles for every expert that is hit, at `peak` of the
               card's; at `tuned` for the sizes in `TUNED`, with small tiles
    ```

    Tokens choose independently: of N experts with k per token, t tokens hit N (1 - (1 - k / N)^t).
    """

    launch: float
    bandwidth: float
    peak: float
    tuned: float
    sharpness: float
    fill: float
    passes: float

    def seconds(
        self,
        tokens: Vector,
        hidden: Vector | float,
        size: Vector | float,
        number: Vector | float,
        per_token: Vector | float,
        card: Card,
    ) -> Vector:
        """`size`: feed-forward size of an expert, which has a gate, on one rank.  # [num_rows]"""
        matrices, rows = 3.0 * hidden * size, per_token * tokens
        hit = num_hit(tokens, number, per_token)
        is_tuned = _is_tuned(number, size, card)
        tile = np.where((tokens <= number) | is_tuned, SMALL_TILE, LARGE_TILE)
        peak = np.where(is_tuned, self.tuned, self.peak) * card.peak
        reading = ELEMENT_SIZE * hit * matrices / (self.bandwidth * card.bandwidth)
        passing = ELEMENT_SIZE * rows * (2.0 * hidden + 5.0 * size) / (self.passes * card.bandwidth)
        computing = 2 * matrices * (rows + self.fill * tile * hit) / peak
        s = 1 + self.sharpness
        return np.asarray(
            self.launch + ((reading + passing) ** s + computing**s) ** (1 / s), dtype=np.float64
        )


def num_hit(tokens: Vector, number: Vector | float, per_token: Vector | float) -> Vector:
    """The expected number of experts that at least one of the tokens passes.  # [num_rows]"""
    return np.asarray(number * (1 - (1 - per_token / number) ** tokens), dtype=np.float64)


def _is_tuned(number: Vector | float, size: Vector | float, card: Card) -> NDArray[np.bool_]:
    """Are tiles tuned for each number of experts and size?  # [num_rows], or a single one"""
    tuned = [(number == own) & (size == width) for own, width in TUNED[card.kernels]]
    return np.asarray(np.logical_or.reduce(tuned), dtype=np.bool_)
