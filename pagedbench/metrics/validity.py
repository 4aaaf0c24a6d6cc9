"""Whether a run is valid, and whether it was overloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.client import client_reasons, num_unanswered
from pagedbench.metrics.memory import PARTS
from pagedbench.request import Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.metrics.records import RequestRecord, RunRecord

MAX_LATENESS = 0.010
"""Most seconds between the end of the iteration in which a request arrives and its hand-over."""

OVERLOADED_SHARE = 0.1
"""The share of all requests that may wait when arrivals end."""


def invalid_reasons(record: RunRecord) -> tuple[str, ...]:
    """The reasons why a run is not valid; empty if it is. `RunRecord.invalid_because` keeps them."""
    reasons = []
    if record.crash is not None:
        reasons.append(f"it crashed with {record.crash}")
    elif record.interrupted:
        reasons.append("it was interrupted before its last request ended")
    if not record.num_arrived:
        reasons.append("no request arrived")
    failed = sum(item.status is Status.FAILED for item in record.requests)
    if failed and record.client is None:
        reasons.append(
            f"{_count(failed, 'request')} failed: too large ever to fit the KV pool, or more sequences "
            "than --max-num-seqs"
        )
    unfinished = record.num_arrived - len(record.requests)
    if unfinished:
        reasons.append(f"{_count(unfinished, 'request')} did not finish")
    inexact = sum(not _has_exact_length(item) for item in record.requests)
    if inexact:
        reasons.append(f"{_count(inexact, 'request')} did not get the exact output length")
    if record.client is not None:
        return (*reasons, *client_reasons(record, record.client))
    return (*reasons, *_memory_reasons(record), *_lateness_reasons(record))


def _memory_reasons(record: RunRecord) -> list[str]:
    reasons = []
    if record.owned_at_start:
        reasons.append(f"{_count(record.owned_at_start, 'slot')} had an owner before the first iteration")
    if record.owned_at_end and not record.interrupted:
        reasons.append(f"{_count(record.owned_at_end, 'slot')} had an owner after the last iteration")
    total = sum(record.steps[f"kv_{part}"] for part in PARTS)
    wrong = int(np.count_nonzero(total != record.capacity))
    if wrong:
        reasons.append(
            f"the parts of the KV pool did not sum to its capacity in {_count(wrong, 'iteration')}"
        )
    return reasons


def _lateness_reasons(record: RunRecord) -> list[str]:
    if record.max_lateness <= MAX_LATENESS:
        return []
    late, limit = 1000 * record.max_lateness, 1000 * MAX_LATENESS
    return [f"an arrival was handed over {late:.3g} ms late (at most {limit:g} ms are accepted)"]


def _has_exact_length(item: RequestRecord) -> bool:
    """Whether a reply has the requested length. Failed requests are counted elsewhere."""
    if item.status is not Status.FINISHED:
        return True
    if item.reply is not None:
        return item.reply.num_tokens == item.request.reply_len
    wanted, lengths = item.request.reply_len, {len(output.token_ids) for output in item.outputs}
    is_complete = len(item.outputs) == item.request.sampling.width
    if item.request.sampling.stop_token_ids:  # any length up to the most
        return is_complete and item.num_tokens == max(lengths) <= wanted
    return is_complete and item.num_tokens == wanted and lengths in ({0}, {wanted})


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def is_overloaded(record: RunRecord) -> bool:
    """Whether more than a tenth of all requests wait when arrivals end, in a queue that grew.

    The queue is that of the iteration which the last arrival joined; its growth is the slope of the
    least-squares line through the queue of every iteration in the second half of the time of arrivals.
    For a foreign server, the queue is the requests that have no token yet, at every arrival.
    """
    if record.client is not None:
        return _is_server_overloaded(record)
    steps = record.steps
    if not len(steps):
        return False
    joined = min(int(np.searchsorted(steps.start, record.last_arrival)), len(steps) - 1)
    if not steps["waiting"][joined] > OVERLOADED_SHARE * record.num_arrived:
        return False
    half_time = (record.first_arrival + record.last_arrival) / 2
    window = slice(min(int(np.searchsorted(steps.start, half_time)), joined), joined + 1)
    return _grows(steps.start[window], steps["waiting"][window])


def _is_server_overloaded(record: RunRecord) -> bool:
    half_time = (record.first_arrival + record.last_arrival) / 2
    arrivals = np.sort(record.latencies.arrival)
    times = arrivals[arrivals >= half_time]
    if not len(times):
        return False
    waiting = num_unanswered(record, times)
    return bool(waiting[-1] > OVERLOADED_SHARE * record.num_arrived) and _grows(times, waiting)


def _grows(time: NDArray[np.float64], waiting: NDArray[np.int64]) -> bool:
    """Whether the least-squares line through a queue rises."""
    return float((time - time.mean()) @ (waiting - waiting.mean())) > 0
