"""Latencies: the times of every request that left, in columns, and the gaps between tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.request import Status

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from pagedbench.metrics.records import RequestRecord, Steps
    from pagedbench.request import Span


@dataclass(frozen=True, slots=True, eq=False)
class Latencies:
    """One row for each request, in the order of the record. Seconds of the run's clock; NaN: undefined."""

    arrival: NDArray[np.float64]  # [num_requests], scheduled
    admit: NDArray[np.float64]  # [num_requests], first admission
    first_token: NDArray[np.float64]  # [num_requests], end of the iteration that decided it
    last_token: NDArray[np.float64]  # [num_requests]
    finish: NDArray[np.float64]  # [num_requests], when the request left
    prompt_len: NDArray[np.int64]  # [num_requests]
    output_len: NDArray[np.int64]  # [num_requests], of one sequence; what an unfinished request asked for
    num_first: NDArray[np.int64]  # [num_requests], tokens at `first_token`: 1, or those of its chunk
    num_sequences: NDArray[np.int64]  # [num_requests]
    num_preemptions: NDArray[np.int64]  # [num_requests]
    is_completed: NDArray[np.bool_]  # [num_requests]; the times of a failed request are NaN
    itl: NDArray[np.float64]  # [num_gaps], gaps between two tokens, request by request (`latencies`)
    num_gaps: NDArray[np.int64]  # [num_requests], how many of `itl` are the request's

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def queue_time(self) -> NDArray[np.float64]:
        """First admission less arrival."""
        return self.admit - self.arrival

    @property
    def ttft(self) -> NDArray[np.float64]:
        """Time to first token, queueing included."""
        return self.first_token - self.arrival

    @property
    def tpot(self) -> NDArray[np.float64]:
        """Time per output token after those that came first; NaN where a whole reply came at once."""
        num_later = self.output_len - self.num_first
        return (self.last_token - self.first_token) / np.where(num_later > 0, num_later, np.nan)

    @property
    def e2el(self) -> NDArray[np.float64]:
        """End-to-end latency: the end of the request less its arrival."""
        return self.finish - self.arrival

    @property
    def normalized_latency(self) -> NDArray[np.float64]:
        """End-to-end latency per output token, s/token (paper, section 6.1)."""
        return self.e2el / self.output_len

    @property
    def longest_gap(self) -> NDArray[np.float64]:
        """The longest `itl` of every request; NaN without one."""
        longest, has_gaps = np.full(len(self), np.nan), self.num_gaps > 0
        starts = np.cumsum(self.num_gaps) - self.num_gaps
        longest[has_gaps] = np.maximum.reduceat(self.itl, starts[has_gaps])
        return longest


def latencies(requests: Items[RequestRecord], steps: Steps) -> Latencies:
    """Derive every request's times from the ends of its iterations, or from what its client saw.

    There are no gaps if a chunk of any reply brought several tokens: the others would not represent all.
    """
    completed = [item.status is Status.FINISHED for item in requests]
    lengths = [
        item.num_tokens if is_done else item.request.reply_len
        for item, is_done in zip(requests, completed, strict=True)
    ]
    num_times = [
        length * is_done if item.reply is None else len(item.reply.times)
        for item, length, is_done in zip(requests, lengths, completed, strict=True)
    ]
    first_token, last_token = np.full(len(requests), np.nan), np.full(len(requests), np.nan)
    has_gaps = all(item.reply is None or item.reply.has_token_times for item in requests)
    num_gaps = np.maximum(_integers(num_times) - 1, 0) * has_gaps
    itl, start = np.empty(int(num_gaps.sum())), 0  # there may be tens of millions
    end, decode_ends, decode_gaps = steps.end, steps.decode_ends, np.diff(steps.decode_ends)
    for row, (item, number) in enumerate(zip(requests, num_gaps.tolist(), strict=True)):
        if number and (span := _simple_span(item)) is not None:  # its gaps are those between iterations
            first_token[row], last_token[row] = end[span.prefill_step], decode_ends[span.last]
            itl[start] = decode_ends[span.first + 1] - first_token[row]
            itl[start + 1 : start + number] = decode_gaps[span.first + 1 : span.last]
        elif len(times := _token_times(item, steps)):
            first_token[row], last_token[row] = times[0], times[-1]
            if number:
                np.subtract(times[1:], times[:-1], out=itl[start : start + number])
        start += number
    return Latencies(
        arrival=np.array([item.request.arrival_time for item in requests], dtype=np.float64),
        admit=np.array([item.admit_time for item in requests], dtype=np.float64),  # None becomes NaN
        first_token=first_token,
        last_token=last_token,
        finish=np.where(completed, [item.finish_time for item in requests], np.nan),
        prompt_len=_integers([item.request.prompt_len for item in requests]),
        output_len=_integers(lengths),
        num_first=_integers([1 if item.reply is None else item.reply.num_first for item in requests]),
        num_sequences=_integers([item.request.sampling.width for item in requests]),
        num_preemptions=_integers([item.num_preemptions for item in requests]),
        is_completed=np.array(completed, dtype=np.bool_),
        itl=itl,
        num_gaps=num_gaps,
    )


def _token_times(item: RequestRecord, steps: Steps) -> NDArray[np.float64]:
    """The time at which every output position was decided or seen.  # [num_tokens]"""
    if item.reply is not None:
        return item.reply.times
    return item.token_times(steps) if item.status is Status.FINISHED else np.empty(0)


def _simple_span(item: RequestRecord) -> Span | None:
    """The span of a reply of which every iteration decided one token, the first of them with the prompt."""
    if len(item.spans) != 1 or item.spans[0].extra or item.spans[0].prefill_step is None:
        return None
    return item.spans[0]


def _integers(values: Items[object]) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)
