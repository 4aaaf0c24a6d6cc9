"""Which 95 % interval each metric of latency gets, and from how many observations it comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.formulas import METRICS
from pagedbench.metrics.intervals import Resamples, inverted_interval, resample
from pagedbench.metrics.observed import Observed, Statistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.metrics.intervals import Interval
    from pagedbench.metrics.latency import Latencies
    from pagedbench.metrics.records import RunRecord


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How much a metric of latency rests on."""

    num_samples: int  # requests; for `itl` gaps
    interval: Interval | None  # 95 %, in the metric's unit; None for a max and for very few requests


def uncertainties(record: RunRecord) -> dict[str, Uncertainty]:
    """For every metric of latency, by its name. Never used by a gate."""
    run = Observed(record)
    statistics = {metric.name: metric.statistic for metric in METRICS if metric.statistic}
    resamples = resample(len(record.requests))
    intervals = {} if resamples is None else _intervals(run.latencies, statistics, resamples)
    return {
        name: Uncertainty(len(run.samples(statistic.column)), intervals.get(name))
        for name, statistic in statistics.items()
    }


def _intervals(
    table: Latencies, statistics: dict[str, Statistic], resamples: Resamples
) -> dict[str, Interval | None]:
    order = np.argsort(table.arrival, kind="stable")
    columns = dict.fromkeys(statistic.column for statistic in statistics.values())
    found: dict[str, Interval | None] = {}
    for column in columns:
        wanted = {name: item for name, item in statistics.items() if item.column == column}
        if column == "itl":
            found |= _gap_intervals(table, order, wanted, resamples)
            continue
        values = getattr(table, column)[order] * next(iter(wanted.values())).scale
        percents = {name: item.percent for name, item in wanted.items() if item.percent is not None}
        bounds = resamples.percentile_intervals(values, list(percents.values()))
        found |= dict(zip(percents, bounds, strict=True))
        means = [name for name, item in wanted.items() if item.kind == "mean"]
        found |= dict.fromkeys(means, resamples.mean_interval(values))
    return found


def _gap_intervals(
    table: Latencies, order: NDArray[np.int64], wanted: dict[str, Statistic], resamples: Resamples
) -> dict[str, Interval | None]:
    """Gaps are pooled over tokens, but whole requests are resampled."""

    def per_request(weights: NDArray[np.float64] | NDArray[np.bool_] | None) -> NDArray[np.float64]:
        total = np.bincount(table.gap_request, weights=weights, minlength=len(table))
        return total[order].astype(np.float64)  # an integer without weights

    num_gaps = per_request(None)
    found: dict[str, Interval | None] = {}
    for name, statistic in wanted.items():
        gaps = table.itl * statistic.scale
        if statistic.percent is not None and len(gaps):
            is_low = gaps <= np.percentile(gaps, statistic.percent)
            share = resamples.ratio_interval(per_request(is_low), num_gaps)
            found[name] = inverted_interval(gaps, statistic.percent, share)
        elif statistic.kind == "mean":
            found[name] = resamples.ratio_interval(per_request(gaps), num_gaps)
    return found
