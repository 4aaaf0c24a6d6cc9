"""Fits: parameters that make a formula's relative errors small, whatever the scale of what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

NUM_ROUNDS = 60
OUTLIER = 0.1
"""Relative errors well above it pull in proportion to their size only, not to its square."""


@dataclass(frozen=True, slots=True)
class Errors:
    """How far predictions are from what was measured, as shares of it."""

    num_rows: int
    median: float
    percentile_95: float

    def __str__(self) -> str:
        return f"median {self.median:.1%}, 95th percentile {self.percentile_95:.1%} of {self.num_rows:,}"


def errors_of(predicted: Vector, measured: Vector) -> Errors:
    """Both in the same unit.  # [num_rows]"""
    shares = np.abs(predicted / measured - 1.0)
    return Errors(len(shares), float(np.median(shares)), float(np.quantile(shares, 0.95)))


def fit_formula(formula: Callable[[Vector], Vector], measured: Vector, start: Vector) -> Vector:
    """The positive parameters of `formula` whose logarithmic errors are least (Levenberg-Marquardt).

    Args:
        formula: parameters [num_parameters] to predictions [num_rows], all positive.
        start: where the search begins.
    """

    def misses(logs: Vector) -> Vector:
        return np.log(formula(np.exp(logs)) / measured)

    def loss(errors: Vector) -> float:
        return float(np.sum(np.sqrt(1.0 + (errors / OUTLIER) ** 2) - 1.0))

    logs, damping = np.log(start), 1e-2
    errors = misses(logs)
    for _ in range(NUM_ROUNDS):
        slopes = _slopes(misses, logs, errors)
        weights = 1.0 / np.sqrt(1.0 + (errors / OUTLIER) ** 2)  # [num_rows]
        curvature = slopes.T @ (slopes * weights[:, None])  # [num_parameters, num_parameters]
        damped = curvature + damping * np.diag(np.diag(curvature) + 1e-12)
        step = np.linalg.solve(damped, slopes.T @ (weights * errors))
        new = misses(logs - np.clip(step, -0.5, 0.5))
        if loss(new) < loss(errors):
            logs, errors, damping = logs - np.clip(step, -0.5, 0.5), new, damping / 3
        else:
            damping *= 4
    return np.asarray(np.exp(logs), dtype=np.float64)


def _slopes(misses: Callable[[Vector], Vector], logs: Vector, errors: Vector) -> NDArray[np.float64]:
    """How errors change with each parameter.  # [num_rows, num_parameters]"""
    width = 1e-4
    return np.stack([(misses(logs + width * axis) - errors) / width for axis in np.eye(len(logs))], axis=1)


def fit_shares(features: NDArray[np.float64], measured: Vector) -> Vector:
    """Coefficients, none below 0, of a sum whose relative errors are least.

    Args:
        features: [num_rows, num_coefficients]

    Returns:
        [num_coefficients], by coordinate descent, outliers weighing less.
    """
    table = features / measured[:, None]
    scales = np.linalg.norm(table, axis=0)
    table = table / np.where(scales > 0, scales, 1.0)
    coefficients, weights = np.zeros(table.shape[1]), np.ones(len(table))
    for _ in range(8):
        weighted = table * weights[:, None]
        curvature, pull = table.T @ weighted, weighted.sum(axis=0)
        coefficients = _descend(curvature, pull, coefficients)
        weights = 1.0 / np.sqrt(1.0 + ((table @ coefficients - 1.0) / OUTLIER) ** 2)
    return np.asarray(coefficients / np.where(scales > 0, scales, np.inf), dtype=np.float64)


def _descend(curvature: NDArray[np.float64], pull: Vector, start: Vector) -> Vector:
    coefficients = start.copy()
    for _ in range(2000):
        before = coefficients.copy()
        for i, own in enumerate(np.diag(curvature)):
            if own > 0:
                rest = pull[i] - curvature[i] @ coefficients + own * coefficients[i]
                coefficients[i] = max(rest / own, 0.0)
        if np.abs(coefficients - before).max() < 1e-10:
            break
    return coefficients
