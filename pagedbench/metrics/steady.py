"""The steady part of a run: throughput without the start, which fills the batch, and the drain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.request import Status

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord

SERVICE_PERCENT = 90
"""Percent of the requests that must run, from admission to end, for less time than the first half."""

MIN_COMPLETED = 10
"""Requests that must complete in the steady part."""


@dataclass(frozen=True, slots=True)
class SteadyPart:
    """The second half of the time of arrivals; the batch fills in the first half.

    Attributes:
        duration: seconds.
        num_completed: requests that completed in it.
        num_output_tokens: tokens decided in it, of all samples or beams, also of later completions.
    """

    duration: float
    num_completed: int
    num_output_tokens: int


def steady_part(record: RunRecord) -> SteadyPart | None:
    """The steady part; None where there is an obstacle."""
    return None if obstacle_to_steady(record) is not None else _second_half(record)


def obstacle_to_steady(record: RunRecord) -> str | None:
    """The reason why a run has no steady part, as a part of a sentence; None if it has one."""
    if record.interrupted or record.crash is not None:
        return "the run did not end"
    half = (record.last_arrival - record.first_arrival) / 2
    if not half > 0:
        return "all requests arrived at once"
    table = record.latencies
    served = (table.finish - table.admit)[table.is_completed]
    if not len(served):
        return "no request completed"
    usual = float(np.percentile(served, SERVICE_PERCENT))
    if usual > half:
        share = 100 - SERVICE_PERCENT
        return (
            f"{share} % of the requests run for {usual:.3g} s or longer, and arrivals end after only "
            f"{2 * half:.3g} s"
        )
    completed = _second_half(record).num_completed
    if completed < MIN_COMPLETED:
        return f"too few requests completed in the second half of the arrivals' time: {completed}"
    return None


def _second_half(record: RunRecord) -> SteadyPart:
    start, end = (record.first_arrival + record.last_arrival) / 2, record.last_arrival
    finish, steps = record.latencies.finish, record.steps
    # Decoding iterations that end within are number `low` to `high` - 1.
    low, high = (int(np.searchsorted(steps.decode_ends, time, side="right")) for time in (start, end))
    num_tokens = 0
    for item in record.requests:
        for span in item.spans if item.status is Status.FINISHED else ():
            decided = max(min(span.last + 1, high) - max(span.first + 1, low), 0)
            decided += sum(low <= number < high for number in span.extra)
            if span.prefill_step is not None:
                decided += bool(start < steps.end[span.prefill_step] <= end)
            num_tokens += decided * item.request.sampling.width
    return SteadyPart(end - start, int(np.count_nonzero((finish > start) & (finish <= end))), num_tokens)
