"""Recorder: collects the record of a run while it happens."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.records import Output, RequestRecord, RunRecord, Steps
from pagedbench.metrics.step_rows import step_columns, step_row
from pagedbench.request import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.memory.cache_times import CacheTimes
    from pagedbench.memory.pages import PageCounts
    from pagedbench.memory.tiers import TierCounts
    from pagedbench.memory.usage import MemoryUsage
    from pagedbench.request import Request, SequenceGroup
    from pagedbench.scheduling.batch import Batch, Preemption
    from pagedbench.scheduling.repetition import Stretch


@dataclass(slots=True)
class Recorder:
    """Collects the record of a run. The counts may be read while it runs.

    Iterations are kept as numbers, not as objects: a million iterations take 190 MB, and the garbage
    collector has nothing to scan.
    """

    capacity: int
    num_arrived: int = 0
    num_finished: int = 0
    num_tokens: int = 0
    last_batch: tuple[int, int] = (0, 0)  # running, waiting
    last_usage: MemoryUsage | None = None
    owned_at_start: int = 0
    num_pinned: int = 0
    tier_counts: TierCounts | None = None
    page_counts: PageCounts | None = None
    _first_arrival: float = 0.0
    _last_arrival: float = 0.0
    _max_lateness: float = 0.0
    _rows: bytearray = field(default_factory=bytearray)  # see `step_columns`
    _growths: array[int] = field(default_factory=lambda: array("q"))  # see `Stretch`
    _starts: array[float] = field(default_factory=lambda: array("d"))
    _ends: array[float] = field(default_factory=lambda: array("d"))
    _broadcasts: array[int] = field(default_factory=lambda: array("q"))
    _decode_ends: array[float] = field(default_factory=lambda: array("d", [0.0]))
    _requests: list[RequestRecord] = field(default_factory=list)
    _preemptions: list[Preemption] = field(default_factory=list)

    @property
    def num_preemptions(self) -> int:
        return len(self._preemptions)

    def times_of(self, step: int) -> tuple[float, float]:
        """When an iteration began and ended."""
        return self._starts[step], self._ends[step]

    def arrived(self, requests: Iterable[Request], now: float) -> None:
        """Requests were handed to the scheduler at `now`."""
        last_end = self._ends[-1] if self._ends else 0.0
        for request in requests:
            if not self.num_arrived:
                self._first_arrival = request.arrival_time
            self.num_arrived += 1
            self._last_arrival = request.arrival_time
            lateness = now - max(request.arrival_time, last_end)
            self._max_lateness = max(self._max_lateness, lateness)

    def step(
        self,
        start: float,
        end: float,
        batch: Batch,
        usage: MemoryUsage,
        num_more_tokens: int = 0,
        broadcast_bytes: int = 0,
    ) -> None:
        """An iteration ran from `start` to `end`.

        Args:
            num_more_tokens: tokens that decoding sequences got beyond one each.
            broadcast_bytes: bytes sent to each other rank.
        """
        num_decoded = batch.num_decode_tokens + num_more_tokens
        self._starts.append(start)
        self._ends.append(end)
        self._broadcasts.append(broadcast_bytes)
        if batch.decode_step is not None:
            missing = batch.decode_step + 1 - len(self._decode_ends)
            self._decode_ends.extend([end] * missing)
        self._rows += step_row(batch, usage, num_decoded)
        if batch.preemptions:
            self._preemptions += batch.preemptions
        self._count(batch, usage, num_decoded)

    def _count(self, batch: Batch, usage: MemoryUsage, num_decoded: int) -> None:
        self.num_tokens += num_decoded
        for prefill in batch.prefills:
            self.num_tokens += len(prefill.sampled)
        self.last_batch = (batch.num_running, batch.num_waiting)
        self.last_usage = usage

    def repeat(self, times: list[float], stretch: Stretch) -> None:
        """The iterations of the stretch ran from each of `times` to the next."""
        batch, ends = stretch.batch, array("d", times)
        self._starts.extend(ends[:-1])
        del ends[0]
        self._ends.extend(ends)
        self._decode_ends.extend(ends)
        self._rows += step_row(batch, stretch.usage, batch.num_decode_tokens)
        self._growths.fromlist(stretch.growths)
        self.num_tokens += stretch.number * batch.num_decode_tokens
        self.last_batch = (batch.num_running, batch.num_waiting)
        self.last_usage = stretch.last_usage

    def finished(self, groups: Iterable[SequenceGroup], now: float) -> None:
        """Groups left the system: completed, failed or aborted."""
        for group in groups:
            self.num_finished += 1
            self._requests.append(self._record_of(group, now))

    def _record_of(self, group: SequenceGroup, now: float) -> RequestRecord:
        outputs = [Output(tuple(item.output_ids), item.cumulative_logprob) for item in group.sequences]
        return RequestRecord(
            request=group.request,
            status=group.status,
            admit_time=None if group.admit_step is None else self._starts[group.admit_step],
            finish_time=now,
            num_preemptions=group.num_preemptions,
            spans=tuple(group.spans) if group.status is Status.FINISHED else (),
            outputs=tuple(outputs) if group.status is Status.FINISHED else (),
            num_cached=group.num_cached,
        )

    def finish(
        self,
        *,
        owned_at_end: int,
        interrupted: bool,
        crash: str | None = None,
        cache_times: CacheTimes | None = None,
    ) -> RunRecord:
        """The complete record."""
        rows, self._rows = self._rows, bytearray()  # avoids a second copy of up to 300 MB
        steps = Steps(
            start=np.array(self._starts),
            end=np.array(self._ends),
            columns=step_columns(rows, self._growths, len(self._starts)),
            decode_ends=np.array(self._decode_ends),
        )
        return RunRecord(
            requests=tuple(sorted(self._requests, key=lambda record: record.request.request_id)),
            steps=steps,
            capacity=self.capacity,
            num_arrived=self.num_arrived,
            first_arrival=self._first_arrival,
            last_arrival=self._last_arrival,
            max_lateness=self._max_lateness,
            owned_at_start=self.owned_at_start,
            owned_at_end=owned_at_end,
            interrupted=interrupted,
            crash=crash,
            num_pinned=self.num_pinned,
            preemptions=tuple(self._preemptions),
            cache_times=cache_times,
            tier_counts=self.tier_counts,
            page_counts=self.page_counts,
            broadcast_bytes=np.array(self._broadcasts) if any(self._broadcasts) else None,
        )
