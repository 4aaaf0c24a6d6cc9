"""The record of a fleet: the times of every request, and a few sums per replica.

A replica's iterations are summed up as soon as it has ended, so that fifty replicas fit in memory. Only the
longest gap between tokens is kept for every request.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pagedbench.fleet.replica import Role
from pagedbench.metrics.latency import Latencies
from pagedbench.metrics.memory import mean_over_time
from pagedbench.metrics.observed import Served
from pagedbench.metrics.slo import Slo
from pagedbench.runs.limits import find_limit

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from pagedbench.fleet.replica import Replica
    from pagedbench.metrics.records import RunRecord
    from pagedbench.runs.criterion import Criterion
    from pagedbench.runs.limits import Limit


@dataclass(frozen=True, slots=True, eq=False)
class ReplicaRecord:
    """The record of one replica.

    Attributes:
        request_ids: those of the rows of `latencies`.  # [num_requests]
        num_cached: prompt tokens of each request that were in its cache.  # [num_requests]
        num_tokens: prompt tokens and output tokens that it served.
        kv_use_mean_pct: percent of the pool that holds tokens in use, mean over time.
        limit: why it misses the criterion by itself; None if it does not, or there is none.
        num_missed: how many of its requests miss the criterion's bounds.
        invalid: reasons why its run is not valid.
        start_time, end_time: the time that is paid for.
    """

    number: int
    role: Role
    latencies: Latencies
    request_ids: NDArray[np.int64]
    num_cached: NDArray[np.int64]
    num_arrived: int
    num_steps: int
    num_tokens: int
    prefix_hits: int
    prefix_queried: int
    num_preemptions: int
    kv_use_mean_pct: float | None
    limit: Limit | None
    num_missed: int
    invalid: tuple[str, ...]
    start_time: float
    end_time: float


def record_of(replica: Replica, criterion: Criterion | None, end_time: float) -> ReplicaRecord:
    """Sum up a replica. `end_time`: the fleet's, for replicas that stay until then."""
    return summed_up(
        replica.engine.finish(replica.inbox),
        criterion,
        number=replica.number,
        role=replica.role,
        start_time=replica.start_time,
        end_time=end_time if replica.end_time is None else replica.end_time,
    )


def summed_up(
    record: RunRecord,
    criterion: Criterion | None,
    *,
    number: int,
    role: Role = Role.MIXED,
    start_time: float = 0.0,
    end_time: float,
) -> ReplicaRecord:
    """Sum up the record of one engine."""
    latencies, steps = record.latencies, record.steps
    num_tokens = latencies.prompt_len + latencies.output_len * latencies.num_sequences  # [num_requests]
    limit, num_missed, criterion = None, 0, None if criterion is None else criterion_of(role, criterion)
    if criterion is not None and record.requests:
        num_missed = int((~criterion.bounds.is_met(latencies)).sum())
        if record.interrupted or not criterion.is_met(criterion.figures(record)):
            limit = find_limit(record, criterion)
    return ReplicaRecord(
        number=number,
        role=role,
        latencies=_without_gaps(latencies),
        request_ids=np.array([item.request.request_id for item in record.requests], dtype=np.int64),
        num_cached=np.array([item.num_cached for item in record.requests], dtype=np.int64),
        num_arrived=record.num_arrived,
        num_steps=len(steps),
        num_tokens=int(num_tokens[latencies.is_completed].sum()),
        prefix_hits=int(steps["prefix_hits"].sum()),
        prefix_queried=int(steps["prefix_queried"].sum()),
        num_preemptions=len(record.preemptions),
        kv_use_mean_pct=mean_over_time(record, "token_states"),
        limit=limit,
        num_missed=num_missed,
        invalid=_invalid(record, role),
        start_time=start_time,
        end_time=end_time,
    )


PROMPT_BOUNDS, REPLY_BOUNDS = ("ttft", "queue_time"), ("tpot", "itl")
"""The bounds that a prefill replica or a decode replica can miss by itself."""


def criterion_of(role: Role, criterion: Criterion) -> Criterion | None:
    """The part of a criterion that a replica of this role is responsible for; None if there is none."""
    if role is Role.MIXED:
        return criterion
    names = PROMPT_BOUNDS if role is Role.PREFILL else REPLY_BOUNDS
    bounds = tuple(bound for bound in criterion.bounds.bounds if bound[0] in names)
    return replace(criterion, bounds=Slo(bounds)) if bounds else None


def _invalid(record: RunRecord, role: Role) -> tuple[str, ...]:
    """Why the replica's run is not valid. A decode replica decides all tokens but the first."""
    if not record.num_arrived:
        return ()
    if role is Role.DECODE:
        requests = tuple(
            replace(item, request=replace(item.request, output_len=item.request.reply_len - 1))
            for item in record.requests
        )
        record = replace(record, requests=requests)
    return record.invalid_because


def _without_gaps(latencies: Latencies) -> Latencies:
    """The latencies with only the longest gap of every request."""
    return replace(latencies, **_gaps(latencies.longest_gap))


def _gaps(longest: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """The columns of gaps if each request has at most one.  # longest: [num_requests], NaN for none"""
    has_gap = np.isfinite(longest)
    return {"itl": longest[has_gap], "num_gaps": has_gap.astype(np.int64)}


@dataclass(frozen=True, eq=False)  # without slots, because cached_property needs a __dict__
class FleetRecord:
    """The record of a fleet.

    Attributes:
        replicas: ordered by number.
        num_arrived, first_arrival: about the requests of clients.
        moved_bytes, moved_seconds: bytes of keys and values that moved from prefill to decode replicas, and
            how long the requests waited for that.
        is_cut: it ended before its last request, because the criterion could no longer be met or because
            the user interrupted it.
    """

    replicas: tuple[ReplicaRecord, ...]
    num_arrived: int
    first_arrival: float
    moved_bytes: int = 0
    moved_seconds: float = 0.0
    is_cut: bool = False

    @cached_property
    def latencies(self) -> Latencies:
        """The times of every request, by request id."""
        return in_order(self.replicas)[0]

    def served(self, slo: Slo | None) -> Served:
        """The input of the formulas in `metrics`."""
        return Served(self.latencies, self.num_arrived, self.first_arrival, slo)

    @property
    def end_time(self) -> float:
        """Seconds from the start until the last reply."""
        return max((item.end_time for item in self.replicas), default=0.0)

    @property
    def balance(self) -> float | None:
        """Tokens served by the busiest replica / the mean of all; 1 is perfect balance."""
        tokens = [item.num_tokens for item in self.replicas if item.role is not Role.DECODE]
        return max(tokens) * len(tokens) / sum(tokens) if sum(tokens) else None

    @property
    def limit(self) -> Limit | None:
        """What limits the replica with the most requests that miss the bounds."""
        limited = [item for item in self.replicas if item.limit is not None]
        return max(limited, key=lambda item: item.num_missed).limit if limited else None

    @property
    def invalid(self) -> list[str]:
        """Reasons why the runs of replicas are not valid."""
        return [f"replica {item.number}: {reason}" for item in self.replicas for reason in item.invalid]


def in_order(replicas: Items[ReplicaRecord]) -> tuple[Latencies, NDArray[np.int64]]:
    """The times of every request, by request id, and the replica of its prompt."""
    first = [item for item in replicas if item.role is not Role.DECODE]
    table, ids = _joined(first)
    numbers = np.concatenate([np.full(len(item.request_ids), item.number) for item in first])
    order = np.argsort(ids, kind="stable")
    table, numbers = _rows(table, order), numbers[order]
    later = [item for item in replicas if item.role is Role.DECODE]
    if later:
        table = _with_replies(table, ids[order], *_joined(later))
    return table, numbers


def _joined(replicas: Items[ReplicaRecord]) -> tuple[Latencies, NDArray[np.int64]]:
    """The rows of all replicas, one after another, and their request ids."""
    columns = {
        field.name: np.concatenate([getattr(item.latencies, field.name) for item in replicas])
        for field in fields(Latencies)
    }
    return Latencies(**columns), np.concatenate([item.request_ids for item in replicas])


def _rows(table: Latencies, order: NDArray[np.int64]) -> Latencies:
    """The rows in another order; the table has at most one gap per request."""
    gaps = _gaps(table.longest_gap[order])
    columns = {field.name: getattr(table, field.name) for field in fields(Latencies)}
    moved = {name: column[order] for name, column in columns.items() if name not in gaps}
    return Latencies(**moved, **gaps)


def _with_replies(
    table: Latencies, ids: NDArray[np.int64], replies: Latencies, reply_ids: NDArray[np.int64]
) -> Latencies:
    """Joins the times of prompts and first tokens with those of replies that were decoded elsewhere."""
    rows = np.searchsorted(ids, reply_ids)
    columns = {name: getattr(table, name).copy() for name in ("last_token", "finish", "is_completed")}
    for name, column in columns.items():
        column[rows] = getattr(replies, name)
    output_len = table.output_len.copy()
    output_len[rows] += replies.output_len
    longest = table.longest_gap
    first_gap = replies.first_token - table.first_token[rows]
    longest[rows] = np.fmax(first_gap, replies.longest_gap)
    num_preemptions = table.num_preemptions.copy()
    num_preemptions[rows] += replies.num_preemptions
    return replace(
        table, **columns, **_gaps(longest), output_len=output_len, num_preemptions=num_preemptions
    )
