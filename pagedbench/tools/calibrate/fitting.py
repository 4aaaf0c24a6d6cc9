"""Fits: parameters that minimize a formula's relative errors, so that small and large times count alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

NUM_ROUNDS = 8
"""Rounds of reweighting, after which coefficients no longer change."""

FARTHEST = 12.0
"""A parameter stays within a factor of e to this power of its start; smaller is as good as 0."""

OUTLIER = 0.1
"""Relative errors well above it count in proportion to their size, not to its square."""


@dataclass(frozen=True, slots=True)
class Errors:
    """How far predictions are from measurements, as shares of the measurements."""

    num_rows: int
    median: float
    percentile_95: float


def errors_of(predicted: Vector, measured: Vector) -> Errors:
    """The errors of predictions in the unit of the measurements.  # both [num_rows]"""
    shares = np.abs(predicted / measured - 1.0)
    return Errors(len(shares), float(np.median(shares)), float(np.quantile(shares, 0.95)))


def fit_formula(
    formula: Callable[[Vector], Vector], measured: Vector, start: Vector, *, outlier: float = OUTLIER
) -> Vector:
    """The positive parameters of `formula` whose logarithmic errors are least.

    Args:
        formula: maps parameters [num_parameters] to predictions [num_rows], all positive.
        start: where the search begins.
        outlier: logarithmic errors well above it count in proportion to their size, not to its square.
    """
    from scipy.optimize import least_squares

    def misses(logs: Vector) -> Vector:
        return np.log(formula(np.exp(logs)) / measured)

    found = least_squares(
        misses,
        np.log(start),
        loss="soft_l1",
        f_scale=outlier,
        x_scale="jac",
        bounds=(np.log(start) - FARTHEST, np.log(start) + FARTHEST),
        ftol=1e-12,
        xtol=1e-10,
        gtol=1e-12,
    )
    return np.asarray(np.exp(found.x), dtype=np.float64)


def fit_shares(features: NDArray[np.float64], measured: Vector) -> Vector:
    """The coefficients, none negative, of the sum with the least relative errors.

    Args:
        features: [num_rows, num_coefficients]

    Returns:
        [num_coefficients], by iteratively reweighted least squares: outliers weigh less.
    """
    from scipy.optimize import nnls

    table = features / measured[:, None]
    coefficients, weights = np.zeros(table.shape[1]), np.ones(len(table))
    for _ in range(NUM_ROUNDS):
        coefficients, _ = nnls(table * weights[:, None], weights)
        weights = (1.0 + ((table @ coefficients - 1.0) / OUTLIER) ** 2) ** -0.25
    return np.asarray(coefficients, dtype=np.float64)
