"""One pair of runs: how far its ratio may be trusted, by a moving-block bootstrap over requests.

It knows how requests scatter within the two runs, and nothing of how runs scatter: a hint, not a proof.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pagedbench.metrics.intervals import resample

if TYPE_CHECKING:
    import pandas as pd

    from pagedbench.compare.pairing import Pair
    from pagedbench.metrics.formulas import Metric

Bounds: TypeAlias = tuple[float, float]
"""The low and the high end of an interval."""

REACH = NormalDist().inv_cdf(0.975)
"""Standard deviations that a 95 % interval reaches from its centre."""


def bootstrap_bounds(metric: Metric, pair: Pair) -> Bounds | None:
    """The 95 % interval of the log ratio of a latency metric; None for other metrics or few requests.

    Requests are drawn in blocks of neighbours, the same ones from both runs, because both served them.
    """
    statistic = metric.statistic
    if statistic is None or statistic.kind == "max":
        return None
    column = metric.name.replace(f"_{statistic.kind}_", "_")
    tables = [_by_request(run.requests) for run in (pair.reference, pair.candidate)]
    if any(column not in table for table in tables):  # gaps between tokens are not saved
        return None
    both = tables[0].index[tables[0].index.isin(tables[1].index)]  # in order of arrival
    first, second = (table.loc[both, column].to_numpy(float) for table in tables)
    first, second = (np.where(np.isfinite(first + second), side, np.nan) for side in (first, second))
    resamples = resample(len(both))
    if resamples is None:
        return None
    if statistic.percent is not None:
        bounds = resamples.percentile_ratio_interval(second, first, statistic.percent)
    else:
        bounds = resamples.ratio_interval(np.nan_to_num(second), np.nan_to_num(first))
    if bounds is None or not bounds[0] > 0:
        return None
    return math.log(bounds[0]), math.log(bounds[1])


def _by_request(table: pd.DataFrame) -> pd.DataFrame:
    """In order of arrival, by request."""
    return table.sort_values("arrival_s", kind="stable").set_index("request_id")


def widened(bounds: Bounds, centre: float, level: float) -> Bounds:
    """A 95 % interval at another level, as if either side of it were normal."""
    factor = NormalDist().inv_cdf((1 + level) / 2) / REACH
    return centre + factor * (bounds[0] - centre), centre + factor * (bounds[1] - centre)


def single_pair_p(centre: float, bounds: Bounds) -> float:
    """The level at which the widened interval would begin to hold zero."""
    arm = centre - bounds[0] if centre > 0 else bounds[1] - centre
    if arm <= 0:
        return float(centre == 0)
    return 2 * NormalDist().cdf(-REACH * abs(centre) / arm)
