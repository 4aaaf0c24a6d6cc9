"""Percentiles, of tens of millions of values without a copy of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float64]

MANY = 1_000_000
SAMPLE_SIZE = 100_000
"""Of more than MANY values, about so many tell where those of a rank lie."""

MARGIN = 0.01
"""By how much a rank in the sample may differ from that in all values, as a share of them."""


def percentile(values: Vector, percent: float) -> float:
    """A percentile, interpolated linearly, as numpy's."""
    position = (len(values) - 1) * (percent / 100)
    near, num_below = near_ranks(values, int(position), min(int(position) + 1, len(values) - 1))
    return value_at(near, position - num_below)


def near_ranks(values: Vector, first: int, last: int) -> tuple[Vector, int]:
    """Some values, among them those of ranks `first` to `last` by size; and the number of smaller ones."""
    if len(values) > MANY:
        sample = np.sort(values[:: len(values) // SAMPLE_SIZE])
        low, high = (int(rank / len(values) * len(sample)) for rank in (first, last))
        margin = int(MARGIN * len(sample)) + 1
        least = sample[low - margin] if low >= margin else -np.inf
        most = sample[high + margin] if high + margin < len(sample) else np.inf
        near, num_below = values[(values >= least) & (values <= most)], int((values < least).sum())
        if num_below <= first and last < num_below + len(near):
            return near, num_below
    return values.copy(), 0


def value_at(values: Vector, position: float) -> float:
    """The value at a position in order of size, interpolated linearly. Reorders `values`."""
    low = int(position)
    high, part = min(low + 1, len(values) - 1), position - low
    values.partition((low, high))
    rise = values[high] - values[low]
    return float(values[low] + rise * part if part < 0.5 else values[high] - rise * (1 - part))
