"""RunRecord: everything recorded of a run, in columns; every metric is a function of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.latency import Latencies, latencies
from pagedbench.metrics.validity import invalid_reasons

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.memory.cache_times import CacheTimes
    from pagedbench.memory.pages import PageCounts
    from pagedbench.memory.tiers import TierCounts
    from pagedbench.metrics.client import ClientView, SeenReply
    from pagedbench.request import Request, Span, Status
    from pagedbench.scheduling.batch import Preemption


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
        return sum([span.num_tokens for span in self.spans])

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

    @cached_property
    def invalid_because(self) -> tuple[str, ...]:
        """The reasons why the run is not valid; empty if it is valid."""
        return invalid_reasons(self)
