"""The effect of a spike of arrivals: how high the tail, the queue and memory rose, and when it was over."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.weighted_sum import weighted_sum
from pagedbench.scheduling.batch import BlockedBy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from pagedbench.metrics.records import RunRecord
    from pagedbench.workload.processes import Spike

TAIL_PERCENT = 95
WINDOW = 10.0
"""Seconds of arrivals over which the tail of the time to first token is taken."""

RECOVERED = 1.5
"""A system has recovered when its tail is at most this many times that before the spike."""


@dataclass(frozen=True, slots=True)
class SpikeEffect:
    """What a spike did to one run. Times in seconds of the run's clock.

    Attributes:
        obstacle: the reason why the recovery is unknown, as a part of a sentence, or None.
        recovery: from the end of the spike until the tail is at most RECOVERED times `ttft_before`, and
            stays so; None: it had not recovered when arrivals ended, or there is an obstacle.
        ttft_before: the tail (95th percentile of `ttft`) of arrivals before the spike; None: there are
            none, or it is infinite.
        ttft_peak: the highest tail of the arrivals in any WINDOW from the start of the spike on; infinite
            where requests failed; None: there are none.
        waiting_max: most requests that waited, from the start of the spike until recovery, or else until
            the run ended.
        kv_peak_pct: largest share of the pool that held tokens in that time.
        num_preemptions: preemptions in that time. These three are None for a server, whose iterations are
            not known.
    """

    obstacle: str | None
    recovery: float | None
    ttft_before: float | None
    ttft_peak: float | None
    waiting_max: int | None
    kv_peak_pct: float | None
    num_preemptions: int | None


@dataclass(frozen=True, slots=True)
class InSpike:
    """What a run did during the spike; means are weighted by the time of iterations.

    Attributes:
        running: mean number of running requests.
        step_time: mean seconds per iteration, over iterations.
        kv_token_states_pct: mean share of the pool that held tokens.
        blocked: the share of the time in the queue by the reason why its head waited.
    """

    running: float
    step_time: float
    kv_token_states_pct: float
    blocked: dict[BlockedBy, float]


def spike_effect(record: RunRecord, spike: Spike) -> SpikeEffect:
    """The effect of the spike on the run."""
    arrival, ttft = _by_arrival(record)
    num_before = int(np.searchsorted(arrival, spike.start))
    before = _percentile(np.sort(ttft[:num_before]).tolist()) if num_before else None
    tails = list(windowed_tails(arrival, ttft, spike.start))
    obstacle = _obstacle(record, before)
    recovery = None
    if obstacle is None and before is not None:
        recovery = recovery_time(arrival, ttft, spike.end, RECOVERED * before)
    steps, is_known = record.steps, record.client is None
    until = np.inf if recovery is None else spike.end + recovery
    within = (steps.start >= spike.start) & (steps.start <= until)  # [num_steps]
    kv_peak = int(steps["kv_token_states"][within].max(initial=0))
    preempted = steps["preemptions_recompute"] + steps["preemptions_swap"]
    return SpikeEffect(
        obstacle=obstacle,
        recovery=recovery,
        ttft_before=before if before is not None and math.isfinite(before) else None,
        ttft_peak=max((tail for _, tail in tails), default=None),
        waiting_max=int(steps["waiting"][within].max(initial=0)) if is_known else None,
        kv_peak_pct=100 * kv_peak / record.capacity if is_known else None,
        num_preemptions=int(preempted[within].sum()) if is_known else None,
    )


def in_spike(record: RunRecord, spike: Spike) -> InSpike | None:
    """What the run did in the iterations that began during the spike; None if there were none."""
    steps = record.steps
    within = (steps.start >= spike.start) & (steps.start < spike.end)
    duration = (steps.end - steps.start)[within]
    total = float(duration.sum())
    if not total > 0:
        return None
    waited = duration * steps["waiting"][within]
    reasons = steps["blocked_by"][within]
    return InSpike(
        running=weighted_sum(duration, steps["running"][within]) / total,
        step_time=float(duration.mean()),
        kv_token_states_pct=100 * weighted_sum(duration, steps["kv_token_states"][within])
        / (total * record.capacity),
        blocked={
            kind: float(waited[reasons == kind].sum() / waited.sum())
            for kind in BlockedBy
            if kind and waited.any()
        },
    )  # fmt: skip


def _by_arrival(record: RunRecord) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Arrival and `ttft` of every request that left, in order; infinite without a token.  # [n] each"""
    table = record.latencies
    order = np.argsort(table.arrival, kind="stable")
    ttft = np.where(np.isnan(table.ttft), np.inf, table.ttft)
    return table.arrival[order], ttft[order]


def _obstacle(record: RunRecord, before: float | None) -> str | None:
    if record.interrupted or record.crash is not None:
        return "the run did not end"
    if before is None:
        return "no request arrived before the spike"
    return None if math.isfinite(before) else "too many requests failed before the spike"


def recovery_time(
    arrival: NDArray[np.float64], ttft: NDArray[np.float64], end: float, limit: float
) -> float | None:
    """Seconds from `end` until the tail is at most `limit` and stays so; None: not while requests arrive.

    Args:
        arrival: sorted.  # [num_requests]
        ttft: infinite for requests without a token.  # [num_requests]
    """
    if not len(arrival) or arrival[-1] < end:
        return None
    recovered: float | None = None
    for time, tail in windowed_tails(arrival, ttft, end):
        if tail > limit:
            recovered = None
        elif recovered is None:
            recovered = time - end
    return recovered


def windowed_tails(
    arrival: NDArray[np.float64], ttft: NDArray[np.float64], start: float
) -> Iterator[tuple[float, float]]:
    """The tail of the arrivals in (t - WINDOW, t], at `start` and wherever they change.

    An empty window has a tail of 0. The last arrival is the end; nothing is yielded if `start` is after it.
    """
    if not len(arrival) or arrival[-1] < start:
        return
    leaves = arrival + WINDOW  # sorted, too
    changes = np.unique(np.concatenate(([start], arrival, leaves)))
    window: list[float] = []  # sorted
    first = last = 0
    for time in changes[changes <= arrival[-1]].tolist():
        while last < len(arrival) and arrival[last] <= time:
            insort(window, float(ttft[last]))
            last += 1
        while leaves[first] <= time:
            del window[bisect_left(window, float(ttft[first]))]
            first += 1
        if time >= start:
            yield time, _percentile(window)


def _percentile(values: Items[float]) -> float:
    """The tail of sorted values, interpolated linearly; values may be infinite. 0 if there are none."""
    if not values:
        return 0.0
    rank = TAIL_PERCENT / 100 * (len(values) - 1)
    low = math.floor(rank)
    if rank == low or values[low] == values[low + 1]:
        return values[low]
    return values[low] + (rank - low) * (values[low + 1] - values[low])
