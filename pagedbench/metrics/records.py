"""RunRecord: everything recorded of a run, in columns; every metric is a function of it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.latency import Latencies, latencies
from pagedbench.metrics.step_rows import growth_rows, step_columns, step_row
from pagedbench.request import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pagedbench.memory.cache_times import CacheTimes
    from pagedbench.memory.pages import PageCounts
    from pagedbench.memory.tiers import TierCounts
    from pagedbench.memory.usage import MemoryUsage
    from pagedbench.metrics.client import ClientView, SeenReply
    from pagedbench.request import Request, SequenceGroup, Span
    from pagedbench.scheduling.batch import Batch, Preemption
    from pagedbench.scheduling.repetition import Growth


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The iterations of a run. Times in seconds of the run's clock, kv_* in slots."""

    start: NDArray[np.float64]  # [num_steps]
    end: NDArray[np.float64]  # [num_steps]
    columns: dict[str, NDArray[np.int64]]  # name in STEP_COLUMNS -> [num_steps]
    decode_ends: NDArray[np.float64]  # [1 + decoding iterations]; entry i ends the i-th, 0 is unused

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, name: str) -> NDArray[np.int64]:
        return self.columns[name]

    def token_times(self, span: Span) -> list[NDArray[np.float64]]:
        """The end of the iteration that decided each token of a span, in pieces: copies of slices."""
        ends = self.decode_ends[span.first + 1 : span.last + 1]
        if span.extra:
            ends = np.sort(np.concatenate((ends, self.decode_ends[span.extra])))
        if span.prefill_step is None:
            return [ends]
        return [self.end[span.prefill_step : span.prefill_step + 1], ends]


@dataclass(frozen=True, slots=True)
class Output:
    """One finished sequence. `token_ids` is empty if nothing was sampled (simulation), or a server gave its
    reply only as `text`; its `cumulative_logprob` is then NaN.
    """

    token_ids: tuple[int, ...]
    cumulative_logprob: float
    text: str | None = None


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that has left the system. Times in seconds of the run's clock.

    Attributes:
        reply: what the client saw of it, if a foreign server answered; the spans are then empty.
    """

    request: Request
    status: Status  # FINISHED, FAILED or ABORTED; the last two have no spans and no outputs
    admit_time: float | None
    finish_time: float
    num_preemptions: int
    spans: tuple[Span, ...]
    outputs: tuple[Output, ...]
    num_cached: int = 0  # prompt tokens that were found in the prefix cache at the first admission
    reply: SeenReply | None = None

    @property
    def num_tokens(self) -> int:
        """Output positions that were decided."""
        if self.reply is not None:
            return self.reply.num_tokens
        return sum(span.num_tokens for span in self.spans)

    def token_times(self, steps: Steps) -> NDArray[np.float64]:
        """The end of the iteration that decided each output position.  # [num_tokens]"""
        parts = [part for span in self.spans for part in steps.token_times(span)]
        return np.concatenate(parts) if parts else np.empty(0)


@dataclass(frozen=True, eq=False)  # without slots, because cached_property needs a __dict__
class RunRecord:
    """What one run did.

    Attributes:
        requests: every request that left, by request id.
        steps: every iteration.
        capacity: slots of the pool.
        num_arrived: requests handed to the scheduler.
        first_arrival, last_arrival: scheduled times of the arrivals handed over.
        max_lateness: the longest time in seconds by which an arrival was handed over later than the end of
            the iteration in which it arrived.
        owned_at_start, owned_at_end: slots not free before the first and after the last iteration.
        num_pinned: slots of registered prefixes, which hold tokens whether anything runs or not.
        tier_counts: what the tiers below the device did; None without any.
        page_counts: what happened to pages; None where all slots have memory.
        client: what the client of a foreign server saw; there are then no iterations and no pool. None: the
            run was of our engine.
        broadcast_bytes: sent to each other rank in every iteration; None in one process.
        preemptions: in order, as known at the end of the run.
        cache_times: how long contents of the prefix cache were kept; None without one.
        interrupted: the run ended before its last request did.
        crash: the error that ended it, if one did.
    """

    requests: tuple[RequestRecord, ...]
    steps: Steps
    capacity: int
    num_arrived: int
    first_arrival: float
    last_arrival: float
    max_lateness: float
    owned_at_start: int
    owned_at_end: int
    interrupted: bool
    crash: str | None = None
    num_pinned: int = 0
    preemptions: tuple[Preemption, ...] = ()
    cache_times: CacheTimes | None = None
    tier_counts: TierCounts | None = None
    page_counts: PageCounts | None = None
    broadcast_bytes: NDArray[np.int64] | None = None  # [num_steps]
    client: ClientView | None = None

    @cached_property
    def latencies(self) -> Latencies:
        """The times of every request, derived once, because there are millions of token times."""
        return latencies(self.requests, self.steps)


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

    def repeat(self, batch: Batch, times: list[float], growths: list[Growth], usage: MemoryUsage) -> None:
        """`batch` and iterations like it ran from each of `times` to the next.

        Args:
            growths: the iterations in which sequences got slots, the first included.
            usage: memory usage in the last iteration.
        """
        number, ends = len(times) - 1, array("d", times)
        self._starts.extend(ends[:-1])
        del ends[0]
        self._ends.extend(ends)
        self._decode_ends.extend(ends)
        self._rows += growth_rows(batch, growths)
        self.num_tokens += number * len(batch.decodes)
        self.last_batch = (batch.num_running, batch.num_waiting)
        self.last_usage = usage

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
            columns=step_columns(rows, len(self._starts)),
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
