"""Trace: the requests of one run, in order of arrival; which rows of a data set they are."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.request import Prompt, Request, SamplingParams
from pagedbench.workload.arrivals import PROCESSES, ArrivalProcess
from pagedbench.workload.rows import Row, TraceError, unknown_name
from pagedbench.workload.seeds import Stream, generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.workload.dataset import Dataset, MeanLengths

ARRIVALS = (*PROCESSES, "trace")
DEFAULT_RATE = 2.0
DEFAULT_DURATION = 60.0

_HASH_VERSION = b"pagedbench trace 1\n"


@dataclass(frozen=True, slots=True)
class Trace:
    """The requests of one run. Runs are comparable if their traces have equal `sha256`.

    Attributes:
        name: of the data set.
        requests: in order of arrival; request i has `request_id` i.
        source: where the lengths come from, in a sentence.
        synthetic: the lengths were drawn, not counted in real text.
        num_dropped: rows left out because of their lengths.
        num_unreadable: records of the file without a prompt and a reply.
        paper_means: what the paper prints for this data set.
        arrival: how the requests arrive, in words.
        sha256: of lengths and contents; equal at every rate.
        arrivals_sha256: of the arrival times.
    """

    name: str
    requests: tuple[Request, ...]
    source: str
    synthetic: bool
    arrival: str
    num_dropped: int = 0
    num_unreadable: int = 0
    paper_means: MeanLengths | None = None
    sha256: str = field(init=False)
    arrivals_sha256: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.requests:
            raise TraceError(f"the trace {self.name} has no requests")
        object.__setattr__(self, "sha256", _content_sha256(self.requests))
        times = np.array([request.arrival_time for request in self.requests], dtype="<f8")
        object.__setattr__(
            self, "arrivals_sha256", hashlib.sha256(_HASH_VERSION + times.tobytes()).hexdigest()
        )

    @property
    def mean_prompt_len(self) -> float:
        return sum(request.prompt_len for request in self.requests) / len(self.requests)

    @property
    def mean_output_len(self) -> float:
        return sum(request.output_len for request in self.requests) / len(self.requests)

    @property
    def last_arrival(self) -> float:
        """Seconds."""
        return self.requests[-1].arrival_time

    @property
    def realised_rate(self) -> float:
        """Requests per second up to the last arrival; infinite if all come at time 0."""
        return len(self.requests) / self.last_arrival if self.last_arrival > 0 else math.inf


def _content_sha256(requests: Sequence[Request]) -> str:
    """Hash lengths, then seeds, then the token ids where there are any, as little-endian integers."""
    digest = hashlib.sha256(_HASH_VERSION)
    lengths = [(request.prompt_len, request.output_len) for request in requests]
    digest.update(np.array(lengths, dtype="<i8").tobytes())
    digest.update(np.array([request.prompt.seed for request in requests], dtype="<u8").tobytes())
    for index, request in enumerate(requests):
        if request.prompt.token_ids is not None:
            digest.update(np.array([index, *request.prompt.token_ids], dtype="<i8").tobytes())
    return digest.hexdigest()


def build_trace(
    dataset: Dataset,
    *,
    arrival: str = "poisson",
    rate: float | None = None,
    burstiness: float = 1.0,
    num_requests: int | None = None,
    duration: float | None = None,
    max_model_len: int = 2048,
    seed: int = 0,
) -> Trace:
    """Choose the requests of a run and give them their times.

    Rows with a length below 1, or with prompt + output of `max_model_len` or more, are dropped. Of
    the rest the first N in file order are taken (repeated if too few) and shuffled. Order is kept
    with the trace's own timestamps, and where every row is used (rate inf without `num_requests`).

    Args:
        arrival: one of `ARRIVALS`; `trace` replays the file's own timestamps.
        rate: requests per second, 2.0 unless given; inf: all at once. Not with arrival `trace`.
        num_requests, duration: how many, or for how many seconds of arrivals; one of the two. Without
            either 60 s of arrivals, or every row at rate inf.

    Raises:
        TraceError: options contradict each other, or no request is left.
    """
    _check_size(num_requests, duration)
    usable = [row for row in dataset.rows if _fits(row, max_model_len)]
    if not usable:
        raise TraceError(
            f"no row of {dataset.name} is left: all {len(dataset.rows)} have a length below 1, or prompt + "
            f"output of {max_model_len} tokens or more: raise --max-model-len, or choose another trace"
        )
    if arrival == "trace":
        if rate is not None or burstiness != 1:
            raise TraceError(
                "arrival trace replays the file's own timestamps: leave out rate and burstiness"
            )
        chosen = _replayed(usable, dataset.name, num_requests, duration)
    elif arrival in PROCESSES:
        process = ArrivalProcess(arrival, DEFAULT_RATE if rate is None else rate, burstiness)
        chosen = _drawn(usable, process, num_requests, duration, seed)
    else:
        raise unknown_name("arrival", arrival, ARRIVALS)
    return Trace(
        name=dataset.name,
        requests=_requests(chosen, seed),
        source=dataset.source,
        synthetic=dataset.synthetic,
        arrival=chosen.arrival,
        num_dropped=len(dataset.rows) - len(usable),
        num_unreadable=dataset.num_unreadable,
        paper_means=dataset.paper_means,
    )


@dataclass(frozen=True, slots=True)
class _Selection:
    """Rows in order of arrival, their times in seconds, and how they arrive, in words."""

    rows: Sequence[Row]
    times: Sequence[float]
    arrival: str


def _check_size(num_requests: int | None, duration: float | None) -> None:
    if num_requests is not None and duration is not None:
        raise TraceError("a number of requests and a duration contradict each other: give one of the two")
    if num_requests is not None and num_requests < 1:
        raise TraceError(f"the number of requests is {num_requests}, but must be 1 or more")
    if duration is not None and not 0 < duration < math.inf:
        raise TraceError(f"duration is {duration}, but must be a finite number of seconds above 0")


def _fits(row: Row, max_model_len: int) -> bool:
    return min(row.prompt_len, row.output_len) >= 1 and row.prompt_len + row.output_len < max_model_len


def _replayed(
    rows: Sequence[Row], name: str, num_requests: int | None, duration: float | None
) -> _Selection:
    """The first rows, or those of the first seconds. Rows with timestamps cannot be repeated."""
    times = [row.arrival_time for row in rows if row.arrival_time is not None]  # sorted in the file
    if len(times) < len(rows):
        raise TraceError(
            f"{name} has no timestamps for arrival trace: add a column arrival_s, or choose another"
        )
    if num_requests is None:
        span = DEFAULT_DURATION if duration is None else duration
        num_requests = bisect_right(times, span)
        if num_requests == 0:
            raise TraceError(f"no request of {name} arrives within {span:g} s: ask for a longer duration")
    elif num_requests > len(rows):
        raise TraceError(
            f"{name} has {len(rows)} usable rows, and timestamps cannot be repeated: "
            f"ask for at most {len(rows)} requests"
        )
    return _Selection(rows[:num_requests], times[:num_requests], "the trace's own timestamps")


def _drawn(
    rows: Sequence[Row],
    process: ArrivalProcess,
    num_requests: int | None,
    duration: float | None,
    seed: int,
) -> _Selection:
    if num_requests is not None:
        times = process.times(num_requests, seed)
    elif math.isinf(process.rate) and duration is None:
        return _Selection(rows, process.times(len(rows), seed).tolist(), str(process))
    else:
        span = DEFAULT_DURATION if duration is None else duration
        times = process.times_until(span, seed)
        if not times.size:
            raise TraceError(
                f"no request arrives within {span:g} s, {process}: "
                "ask for a longer duration or a higher rate"
            )
    return _Selection(_shuffled(rows, times.size, seed), times.tolist(), str(process))


def _shuffled(rows: Sequence[Row], number: int, seed: int) -> Sequence[Row]:
    """The first rows in file order, repeated if too few, in an order that the seed decides."""
    order: list[int] = generator(seed, Stream.SHUFFLE).permutation(number).tolist()
    return [rows[index % len(rows)] for index in order]


def _requests(chosen: _Selection, seed: int) -> tuple[Request, ...]:
    """Prompts known by length alone get a seed each: no two prompts are alike by accident."""
    seeds = generator(seed, Stream.PROMPTS).integers(0, 2**63, size=len(chosen.rows)).tolist()
    requests = []
    for index, (row, time, prompt_seed) in enumerate(zip(chosen.rows, chosen.times, seeds, strict=True)):
        ids = row.token_ids
        prompt = Prompt(row.prompt_len, 0 if ids is not None else prompt_seed, ids)
        requests.append(Request(index, time, prompt, SamplingParams(row.output_len)))
    return tuple(requests)
