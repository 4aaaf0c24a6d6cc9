"""The interval of the ratio of a single pair of runs, from sections of the runs.

It measures how the ratio varies within the two runs, but not how runs vary: a hint, not a proof.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pagedbench.metrics.intervals import (
    CRITICAL_T,
    MIN_EFFECTIVE,
    MIN_REQUESTS,
    NUM_SECTIONS,
    Samples,
    effective_number,
    half_width,
    statistic,
)
from pagedbench.metrics.student_t import critical_t, two_sided_p

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from pagedbench.metrics.formulas import Metric
    from pagedbench.runs.pairing import Pair

Bounds: TypeAlias = tuple[float, float]
"""Low and high end of an interval."""

FREEDOM = NUM_SECTIONS - 1


def section_bounds(metric: Metric, pair: Pair) -> Bounds | None:
    """The 95 % interval of the log ratio of a latency metric, from the requests that both runs served.

    None for other metrics, for an overloaded run, and for too few requests or effective samples.
    """
    wanted = metric.statistic
    if wanted is None or wanted.kind == "max":
        return None
    column = metric.name.replace(f"_{wanted.kind}_", "_")
    runs = (pair.reference, pair.candidate)
    tables = [_by_request(run.requests) for run in runs]
    if any(column not in table for table in tables):  # gaps between tokens are not saved
        return None
    both = tables[0].index[tables[0].index.isin(tables[1].index)]  # in order of arrival
    values = np.stack([table.loc[both, column].to_numpy(float) for table in tables])  # [2, num_requests]
    if any(run.values["overloaded"] for run in runs):
        return None
    return ratio_bounds(values[:, np.isfinite(values).all(axis=0)], wanted.percent)


def ratio_bounds(values: NDArray[np.float64], percent: float | None) -> Bounds | None:
    """The interval for a percentile or for the mean.  # values: [reference or candidate, num_requests]"""
    number = values.shape[1]
    if number < MIN_REQUESTS:
        return None
    sides = [Samples(side, np.ones(number, dtype=np.int64)) for side in values]
    centres = np.array([statistic(side.values, percent) for side in sides])
    parts = np.array([[statistic(part, percent) for part in side.sections()] for side in sides])
    if not (parts > 0).all():
        return None
    scales = centres if percent is None else np.ones(2)  # changes of a mean are relative to it
    moves = [side.influences(percent) / scale for side, scale in zip(sides, scales, strict=True)]
    if effective_number(moves[1] - moves[0]) < MIN_EFFECTIVE:
        return None
    centre = math.log(centres[1] / centres[0])
    reach = half_width(np.log(parts[1] / parts[0]) - centre)
    return centre - reach, centre + reach


def _by_request(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("arrival_s", kind="stable").set_index("request_id")


def widened(bounds: Bounds, centre: float, level: float) -> Bounds:
    """A 95 % interval at another level."""
    factor = critical_t(level, FREEDOM) / CRITICAL_T
    return centre + factor * (bounds[0] - centre), centre + factor * (bounds[1] - centre)


def single_pair_p(centre: float, bounds: Bounds) -> float:
    """The p-value: one minus the level at which the widened interval would just contain zero."""
    arm = centre - bounds[0] if centre > 0 else bounds[1] - centre
    if arm <= 0:
        return float(centre == 0)
    return two_sided_p(CRITICAL_T * centre / arm, FREEDOM)
