"""Throughput in parts of a run without its start, which fills the batch, and without its drain.

The steady part is the second half of the arrivals, whatever the load. The steady-state window is the
longest span with a full batch, which an engine has only while its load is near what it can serve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.request import Status

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord

SERVICE_PERCENT = 90
"""Percent of the requests that must run, from admission to end, for less than the first half's time."""

MIN_COMPLETED = 10
"""Least requests that must complete in a part."""

FULL_SHARE = 0.8
"""The batch is full with at least this share of the most requests in any iteration."""

MAX_PAUSE = 0.1
"""A pause of this many seconds between two iterations ends a span with a full batch."""


@dataclass(frozen=True, slots=True)
class SteadyPart:
    """A part of a run.

    Attributes:
        start, duration: seconds.
        num_completed: requests that completed in it.
        num_output_tokens: tokens decided in it, of all samples or beams, even if requests end later.
    """

    start: float
    duration: float
    num_completed: int
    num_output_tokens: int

    @property
    def request_throughput(self) -> float:
        return self.num_completed / self.duration

    @property
    def output_throughput(self) -> float:
        return self.num_output_tokens / self.duration


def steady_part(record: RunRecord) -> SteadyPart | None:
    """The second half of the time of arrivals (the batch fills in the first); None with an obstacle."""
    return None if obstacle_to_steady(record) is not None else _part(record, *_second_half(record))


def obstacle_to_steady(record: RunRecord) -> str | None:
    """The reason why a run has no steady part, as a part of a sentence; None if it has one."""
    if record.interrupted or record.crash is not None:
        return "the run did not end"
    half = (record.last_arrival - record.first_arrival) / 2
    if not half > 0:
        return "all requests arrived at once"
    usual = _usual_service(record)
    if usual is None:
        return "no request completed"
    if usual > half:
        share = 100 - SERVICE_PERCENT
        return (
            f"{share} % of the requests run for {usual:.3g} s or longer, and arrivals end after only "
            f"{2 * half:.3g} s"
        )
    completed = _num_completed(record, *_second_half(record))
    if completed < MIN_COMPLETED:
        return f"too few requests completed in the second half of the arrivals' time: {completed}"
    return None


def full_batch_part(record: RunRecord) -> SteadyPart | None:
    """The steady-state window: the longest span with a full batch; None where there is an obstacle."""
    return None if obstacle_to_full_batch(record) is not None else _part(record, *_longest_full(record))


def obstacle_to_full_batch(record: RunRecord) -> str | None:
    """The reason why a run has no steady-state window, as a part of a sentence; None if it has one."""
    if record.interrupted or record.crash is not None:
        return "the run did not end"
    if record.client is not None:
        return "the iterations of a server cannot be seen"
    usual = _usual_service(record)
    if usual is None:
        return "no request completed"
    start, end = _longest_full(record)
    least, most = full_batch_size(record), int(record.steps["running"].max())
    found = f"{least} or more of at most {most} requests ran for {end - start:.3g} s at a time"
    if end - start < usual:
        return f"{found}, and {SERVICE_PERCENT} % of the requests take up to {usual:.3g} s"
    completed = _num_completed(record, start, end)
    return f"{found}, and only {completed} completed in it" if completed < MIN_COMPLETED else None


def full_batch_size(record: RunRecord) -> int:
    """The fewest requests of a full batch."""
    return math.ceil(FULL_SHARE * int(record.steps["running"].max(initial=0)))


def _longest_full(record: RunRecord) -> tuple[float, float]:
    """Start and end of the longest span of iterations with a full batch."""
    steps = record.steps
    is_full = steps["running"] >= full_batch_size(record)
    begins = is_full & ~np.r_[False, is_full[:-1] & (steps.start[1:] - steps.end[:-1] <= MAX_PAUSE)]
    starts = steps.start[begins]
    ends = steps.end[is_full & np.r_[~is_full[1:] | begins[1:], True]]
    longest = int(np.argmax(ends - starts))
    return float(starts[longest]), float(ends[longest])


def _usual_service(record: RunRecord) -> float | None:
    """Seconds from admission to end within which most requests run; None if none completed.

    For requests of a foreign server, whose admission is unknown: from arrival to end.
    """
    table = record.latencies
    begin = table.admit if record.client is None else table.arrival
    served = (table.finish - begin)[table.is_completed]
    return float(np.percentile(served, SERVICE_PERCENT)) if len(served) else None


def _second_half(record: RunRecord) -> tuple[float, float]:
    """Start and end of the second half of the arrivals' time."""
    return (record.first_arrival + record.last_arrival) / 2, record.last_arrival


def _num_completed(record: RunRecord, start: float, end: float) -> int:
    finish = record.latencies.finish
    return int(np.count_nonzero((finish > start) & (finish <= end)))


def _part(record: RunRecord, start: float, end: float) -> SteadyPart:
    """The requests and tokens that ended after `start`, and at `end` or before."""
    steps = record.steps
    # Decoding iterations number `low` to `high` - 1 end within the part.
    low, high = (int(np.searchsorted(steps.decode_ends, time, side="right")) for time in (start, end))
    num_tokens = 0
    for item in record.requests:
        if item.reply is not None:
            seen = np.count_nonzero((item.reply.times > start) & (item.reply.times <= end))
            num_tokens += round(seen * item.reply.num_tokens / len(item.reply.times))
        for span in item.spans if item.status is Status.FINISHED else ():
            decided = max(min(span.last + 1, high) - max(span.first + 1, low), 0)
            decided += sum(low <= number < high for number in span.extra)
            if span.prefill_step is not None:
                decided += bool(start < steps.end[span.prefill_step] <= end)
            num_tokens += decided * item.request.sampling.width
    return SteadyPart(start, end - start, _num_completed(record, start, end), num_tokens)
