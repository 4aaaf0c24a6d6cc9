"""Lengths summarized in a few numbers and a histogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts in bins that double in width: bin i holds lengths of `edges[i]` to `edges[i + 1]` - 1."""

    edges: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LengthSummary:
    """Lengths in tokens: mean, percentiles (linear interpolation), largest, and their histogram."""

    mean: float
    p50: float
    p90: float
    p99: float
    longest: int
    histogram: Histogram


def length_histogram(lengths: Sequence[int]) -> Histogram:
    """Count lengths (0 or more, at least one of them) in the bins 0, 1, 2-3, 4-7, 8-15 and so on.

    The first and the last bin are not empty.
    """
    bins = [length.bit_length() for length in lengths]  # 0 -> 0, 1 -> 1, 2-3 -> 2, 4-7 -> 3
    first, last = min(bins), max(bins)
    counts = np.bincount(bins)[first:].tolist()
    edges = tuple(2**exponent // 2 for exponent in range(first, last + 2))
    return Histogram(edges, tuple(counts))


def summarize_lengths(lengths: Sequence[int]) -> LengthSummary:
    """The summary of at least one length."""
    p50, p90, p99 = np.percentile(lengths, (50, 90, 99)).tolist()
    return LengthSummary(float(np.mean(lengths)), p50, p90, p99, max(lengths), length_histogram(lengths))
