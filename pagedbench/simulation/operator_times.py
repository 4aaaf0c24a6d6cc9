"""Seconds of one operator on n tokens: matrix products by tiles, waves and bytes, others by bytes."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.simulation.cards import Card

    Vector = NDArray[np.float64]

ELEMENT_SIZE = 2
"""Bytes per number; cards compute in 16 bits."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How far a cost model is from measured times: absolute relative errors."""

    median: float
    percentile_95: float


def tile_speeds(square: float, low: float) -> tuple[tuple[int, int, float], ...]:
    """Height, width and speed of each tile that a library may choose for a product.

    Args:
        square, low: speeds of 128 x 128 and of 64 x 128, as shares of 128 x 256's; 64 x 64 has both.
    """
    return ((128, 256, 1.0), (128, 128, square), (64, 128, low), (64, 64, low * square))


@dataclass(frozen=True, slots=True)
class MatrixTimes:
    """The efficiency of matrix products on a card.

    ```
    time = launch + (reading^s + computing^s)^(1/s)            s: sharpness, infinite for a pure maximum
    reading:   bytes of both operands and the result at `bandwidth` of the memory's
    computing: whole tiles in whole waves over the multiprocessors at `peak` of the card's, with the best of
               tiles of 128 x 256, 128 x 128 (slower: `square`), 64 x 128 (`low`) and 64 x 64 (both)
    ```
    """

    launch: float  # seconds
    bandwidth: float
    peak: float
    sharpness: float
    square: float
    low: float

    def seconds(self, rows: Vector, inner: Vector | float, columns: Vector | float, card: Card) -> Vector:
        """[rows, inner] x [inner, columns]; rows are tokens.  # [num_rows]"""
        size = ELEMENT_SIZE * (inner * columns + rows * (inner + columns))
        reading = size / (self.bandwidth * card.bandwidth)
        computing = self._computing(rows, inner, columns, card)
        s = self.sharpness
        return np.asarray(self.launch + (reading**s + computing**s) ** (1 / s), dtype=np.float64)

    def _computing(
        self, rows: Vector, inner: Vector | float, columns: Vector | float, card: Card
    ) -> Vector:
        times = []
        for height, width, speed in tile_speeds(self.square, self.low):
            num_tiles = np.ceil(rows / height) * np.ceil(columns / width)
            waves = np.ceil(num_tiles / card.num_multiprocessors)
            operations = 2.0 * height * width * inner * card.num_multiprocessors
            times.append(waves * operations / (speed * self.peak * card.peak))
        return np.asarray(np.minimum.reduce(times), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class PassTimes:
    """The efficiency of elementwise operators: seconds to launch one, and shares of memory bandwidth."""

    norm_launch: float
    norm: float
    rotary_launch: float
    rotary: float
    activation_launch: float
    activation: float
    add_launch: float
    add: float

    def seconds(self, kind: str, size: Vector, card: Card) -> Vector:
        """Seconds to read and write `size` bytes; `kind`: norm, rotary, activation or add."""
        launch: float = getattr(self, f"{kind}_launch")
        share: float = getattr(self, kind)
        return np.asarray(np.hypot(launch, size / (share * card.bandwidth)), dtype=np.float64)


def parameters_of(times: MatrixTimes | PassTimes) -> Vector:
    """All parameters, in the order of the fields."""
    return np.array(astuple(times), dtype=np.float64)
