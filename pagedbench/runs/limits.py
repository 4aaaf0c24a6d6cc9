"""What limits a system at a load: what the requests waited for that miss the bound."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.blocking import WAITS_FOR, is_held_by_memory
from pagedbench.metrics.slo import BOUNDED
from pagedbench.runs.numbers import counted
from pagedbench.scheduling.batch import BlockedBy, PreemptionMode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.metrics.records import RunRecord
    from pagedbench.runs.criterion import Criterion

WASTE = ("reserved", "internal", "external")
"""Parts of the pool that hold no token."""

QUEUEING_SHARE = 0.1
"""If requests waited for less than this share of their time, in a run ended early, no resource is short."""

BEFORE_FIRST_TOKEN = ("ttft", "queue_time")
AFTER_FIRST_TOKEN = ("tpot", "itl")
"""Latencies of a part of a request's life: queueing is before its first token, preemption after it."""


class LimitKind(StrEnum):
    """The kind of a bottleneck."""

    POOL = "pool"  # it is full of tokens in use
    FRAGMENTATION = "fragmentation"  # more of the pool is lost or reserved than used
    BATCH = "batch"  # a limit on sequences or tokens was reached, or a batch was closed
    COMPUTE = "compute"  # queues are short, and iterations take too long
    UNKNOWN = "unknown"  # a server served the run, whose iterations cannot be seen


@dataclass(frozen=True, slots=True)
class Limit:
    """What held requests back, and the figures for it in a phrase."""

    kind: LimitKind
    detail: str


STEP_TIME = Limit(LimitKind.COMPUTE, "queues are short; step time is the bottleneck")


@dataclass(frozen=True, slots=True, eq=False)
class _Stays:
    """When requests waited outside the batch: in the queue, or preempted.

    Attributes:
        row: index of the request in the record.  # [num_stays]
        first, stop: the iterations in which it waited, `stop` excluded.  # [num_stays] each
    """

    row: NDArray[np.int64]
    first: NDArray[np.int64]
    stop: NDArray[np.int64]

    def seconds(self, record: RunRecord) -> NDArray[np.float64]:
        """How long every request waited.  # [num_requests]"""
        elapsed = np.concatenate([[0.0], np.cumsum(record.steps.end - record.steps.start)])
        waited = elapsed[self.stop] - elapsed[self.first]  # [num_stays]
        return np.bincount(self.row, waited, len(record.requests)).astype(np.float64)

    def counts(self, record: RunRecord, is_counted: NDArray[np.bool_]) -> NDArray[np.float64]:
        """How many of the counted requests waited in every iteration.  # [num_steps]"""
        chosen, size = is_counted[self.row], len(record.steps) + 1
        came = np.bincount(self.first[chosen], minlength=size)
        went = np.bincount(self.stop[chosen], minlength=size)
        return np.cumsum(came - went)[:-1].astype(np.float64)


def find_limit(record: RunRecord, criterion: Criterion) -> Limit:
    """Why the run misses the criterion.

    If the bound is on a share of the requests, the limit is what the late ones waited for; if it is on the
    mean, what all requests waited for. If the bound would be missed without any waiting, the limit is
    computing.
    """
    if record.client is not None:
        return _of_server(record)
    if record.interrupted:  # ended early: the requests that are left have no latency yet
        return _of_all(record)
    is_completed = record.latencies.is_completed
    missing = is_completed.copy()
    if criterion.attainment is not None:
        missing &= ~criterion.bounds.is_met(record.latencies)
    num_failed = int((~is_completed).sum())
    if num_failed and (criterion.is_met(criterion.figures(record)) or num_failed > missing.sum()):
        return Limit(LimitKind.POOL, f"{counted(num_failed, 'request')} can never fit the KV pool")
    queue, preempted = _in_queue(record), _preempted(record)
    held_up = missing & _would_be_met(record, criterion, queue, preempted)
    if 2 * held_up.sum() < missing.sum():
        return Limit(
            LimitKind.COMPUTE, "the bound is missed even without queueing; step time is the bottleneck"
        )
    late = "" if criterion.attainment is None else f" of {counted(int(held_up.sum()), 'late request')}"
    return _of_waiting(record, queue.counts(record, held_up), preempted.counts(record, held_up), late)


def _would_be_met(
    record: RunRecord, criterion: Criterion, queue: _Stays, preempted: _Stays
) -> NDArray[np.bool_]:
    """Which requests would meet the bounds if they had not waited; for a bound on the mean all or none.

    # [num_requests]
    """
    latencies = record.latencies
    is_met = np.ones(len(latencies), dtype=np.bool_)
    for name, limit in criterion.bounds.bounds:
        waited = np.zeros(len(latencies))
        if name not in AFTER_FIRST_TOKEN:
            waited += queue.seconds(record)
        if name not in BEFORE_FIRST_TOKEN:
            waited += preempted.seconds(record)
        if name == "tpot":
            waited /= np.maximum(latencies.output_len - 1, 1)
        if name == "normalized_latency":
            waited /= latencies.output_len
        left = getattr(latencies, BOUNDED[name]) - waited
        if criterion.attainment is None:
            left = np.full(len(left), np.nanmean(left) if np.isfinite(left).any() else np.nan)
        is_met &= np.isnan(left) | (left <= limit)
    return is_met


def _of_server(record: RunRecord) -> Limit:
    """What a client sees: how much of the latency was before the first token, and how many failed."""
    table = record.latencies
    num_failed = int((~table.is_completed).sum())
    if num_failed:
        return Limit(LimitKind.UNKNOWN, f"{counted(num_failed, 'request')} got no complete reply")
    if not len(table):
        return Limit(LimitKind.UNKNOWN, "no request was sent")
    share = 100 * float(table.ttft.mean() / table.e2el.mean())
    return Limit(LimitKind.UNKNOWN, f"{share:.0f} % of the latency is before the first token")


def _in_queue(record: RunRecord) -> _Stays:
    """The wait from the first iteration after arrival to the first admission, without failed requests."""
    start, latencies = record.steps.start, record.latencies
    first = np.searchsorted(start, latencies.arrival)
    stop = np.searchsorted(start, latencies.admit)
    return _Stays(np.arange(len(first)), first, np.where(latencies.is_completed, stop, first))


def _preempted(record: RunRecord) -> _Stays:
    """The time from the preemption until the request's tokens are back, or computed again."""
    rows = {item.request.request_id: row for row, item in enumerate(record.requests)}
    stays = []
    for item in record.preemptions:
        row = rows.get(item.victim.request.request_id)
        if row is not None and item.resumed_step is not None:
            is_recomputed = item.mode is PreemptionMode.RECOMPUTE
            stays.append((row, item.step, item.resumed_step + is_recomputed))
    return _Stays(*np.array(stays, dtype=np.int64).reshape(-1, 3).T)


def _of_all(record: RunRecord) -> Limit:
    """What kept requests in the queue while others still arrived."""
    steps = record.steps
    is_early = steps.start <= record.last_arrival
    waiting = np.where(is_early, steps["waiting"], 0).astype(np.float64)
    duration = steps.end - steps.start
    queued, running = float(duration @ waiting), float(duration[is_early] @ steps["running"][is_early])
    if not queued > QUEUEING_SHARE * (queued + running):
        return STEP_TIME
    return _of_waiting(record, waiting, np.zeros(len(steps)))


def _of_waiting(
    record: RunRecord, queued: NDArray[np.float64], preempted: NDArray[np.float64], late: str = ""
) -> Limit:
    """What requests waited for longest. A preempted request waits for memory.

    Args:
        queued, preempted: requests that count, in every iteration.  # [num_steps] each
        late: words for these requests, if they are not all.
    """
    steps, is_memory = record.steps, is_held_by_memory(record)
    duration = steps.end - steps.start
    for_memory = duration * (queued * is_memory + preempted)  # request-seconds  # [num_steps]
    others = [kind for kind in BlockedBy if kind and not kind.is_memory]
    seconds = {kind: float((duration * queued)[steps["blocked_by"] == kind].sum()) for kind in others}
    reason = max(seconds, key=lambda kind: seconds[kind])
    memory = float(for_memory.sum())
    total = memory + sum(seconds.values())
    if not total:
        return STEP_TIME
    share = 100 * max(memory, seconds[reason]) / total
    words = f"{share:.0f} % of the time in the queue{late} is for"
    if memory >= seconds[reason]:
        return _of_memory(record, for_memory, f"{words} memory")
    return Limit(LimitKind.BATCH, f"{words} {WAITS_FOR[reason]}")


def _of_memory(record: RunRecord, weights: NDArray[np.float64], words: str) -> Limit:
    """Whether the pool is full of tokens, or more of it is lost. `weights`: weights of iterations."""

    def percent(part: str) -> float:
        return 100 * float(weights @ record.steps[f"kv_{part}"]) / (record.capacity * float(weights.sum()))

    used, lost = percent("token_states"), {part: percent(part) for part in WASTE}
    words = f"{words}, of which tokens in use fill {used:.0f} %"
    if used >= sum(lost.values()):
        return Limit(LimitKind.POOL, words)
    parts = ", ".join(f"{lost[name]:.0f} % {name}" for name in sorted(lost, key=lambda name: -lost[name]))
    return Limit(LimitKind.FRAGMENTATION, f"{words}; {parts}")
