"""The 95 % interval of each latency metric, its number of observations, or why it has no interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.formulas import METRICS
from pagedbench.metrics.intervals import MIN_EFFECTIVE, MIN_REQUESTS, Samples, effective_number, interval
from pagedbench.metrics.observed import Observed
from pagedbench.metrics.validity import is_overloaded

if TYPE_CHECKING:
    from collections.abc import Container

    from pagedbench.metrics.latency import Latencies
    from pagedbench.metrics.observed import Statistic
    from pagedbench.metrics.records import RunRecord

    Interval = tuple[float, float]

ADVICE = "cannot be told from one run; add seeds or runs (--repeats)"
ONE_SPIKE = f"one spike of one run: its spread {ADVICE}"
OVERLOADED = "overloaded: cannot be told from one run, for latencies grow with its length"


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """The interval of a latency metric, and the observations behind it."""

    num_samples: int  # requests; for `itl` gaps
    num_effective: float | None = None  # independent requests with the same information
    interval: Interval | None = None  # 95 %, in the metric's unit
    obstacle: str | None = None  # why there is no interval


def uncertainties(record: RunRecord, names: Container[str] | None = None) -> dict[str, Uncertainty]:
    """The uncertainty of every latency metric, or of those in `names`, by name. Gates do not use it."""
    run, obstacle = Observed(record), obstacle_of(record)
    columns: dict[str, Samples] = {}
    found = {}
    for metric in METRICS:
        if metric.statistic is not None and (names is None or metric.name in names):
            column = metric.statistic.column
            if column not in columns:
                columns[column] = samples_of(run.latencies, column)
            found[metric.name] = uncertainty(metric.statistic, columns[column], obstacle)
    return found


def samples_of(table: Latencies, column: str) -> Samples:
    """The observations of a column in seconds, with their requests; for `itl` all gaps."""
    values = getattr(table, column)
    is_known = np.isfinite(values)
    counts = table.num_gaps if column == "itl" else is_known.astype(np.int64)
    values = values if is_known.all() else values[is_known]
    order = np.argsort(table.arrival, kind="stable")  # [num_requests]
    if np.any(order[1:] < order[:-1]):
        rank = np.argsort(order)
        values, counts = values[np.argsort(np.repeat(rank, counts), kind="stable")], counts[order]
    return Samples(values, counts)


def obstacle_of(record: RunRecord) -> str | None:
    """The reason why no latency of a run has an interval; None if latencies may have one."""
    if record.interrupted or record.crash is not None:
        return "the run did not end"
    return OVERLOADED if is_overloaded(record) else None


def uncertainty(statistic: Statistic, samples: Samples, obstacle: str | None) -> Uncertainty:
    """The uncertainty of one metric. `obstacle`: that of the whole run."""
    number, percent = len(samples.values), statistic.percent
    if statistic.kind == "max":
        return Uncertainty(number, obstacle="a maximum has none")
    if len(samples.requests) < MIN_REQUESTS:
        return Uncertainty(number, obstacle=f"fewer than {MIN_REQUESTS} requests")
    effective = effective_number(samples.influences(percent))
    if obstacle is not None:
        return Uncertainty(number, effective, obstacle=obstacle)
    if effective < MIN_EFFECTIVE:
        return Uncertainty(number, effective, obstacle=f"{effective:.1f} effective samples: {ADVICE}")
    bounds = interval(samples, percent)
    if bounds is None:
        return Uncertainty(
            number, effective, obstacle=f"zero, or too different in sections of the run: {ADVICE}"
        )
    low, high = (statistic.scale * bound for bound in bounds)
    return Uncertainty(number, effective, (low, high))
