"""Trace: the requests of one run, in order of arrival, and a hash by which two traces are compared."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.prompt import Blocks, Segment
from pagedbench.request import Request, SamplingParams
from pagedbench.workload.arrivals import FixedArrivals
from pagedbench.workload.dropped import Dropped, without_unfit
from pagedbench.workload.length_scale import scaled
from pagedbench.workload.prompts import SharedPrefixes, make_prompts, sampling_of
from pagedbench.workload.rows import TraceError
from pagedbench.workload.selection import Traffic, select
from pagedbench.workload.sessions import Clients, SessionArrivals, Wait, with_histories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.prompt import Prompt
    from pagedbench.workload.arrivals import ArrivalSource
    from pagedbench.workload.dataset import Dataset, MeanLengths
    from pagedbench.workload.processes import Spike
    from pagedbench.workload.selection import Selection

_HASH_VERSION = b"pagedbench trace 1\n"
_GREEDY = SamplingParams(max_tokens=0)
_NOTHING_SHARED = SharedPrefixes()
_USUAL_TRAFFIC = Traffic()

_manner = attrgetter(*(item.name for item in fields(SamplingParams) if item.name != "max_tokens"))
"""How a reply is decoded, except for its length."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The requests of one run. Runs are comparable if their traces have equal `sha256`.

    Attributes:
        name: of the data set.
        requests: in order of arrival; request i has `request_id` i.
        source: the source of the lengths, in a sentence.
        synthetic: the lengths were sampled, not counted in real text.
        arrival: the arrival process in words.
        dropped: the rows left out because of their lengths; None: there are none.
        num_unreadable: records of the file that lack a prompt or a reply.
        paper_means: the paper's figures for this data set.
        waits: for every request what it waits for, such as the previous turn of a conversation. Its
            arrival time is then the earliest possible one. Empty if no request waits for another.
        clients: those of a closed loop, in which no arrival is known beforehand; None: an open one.
        spike: a spike of the arrival rate, if there is one.
        prefixes: prefixes that prompts share, to be registered by systems that can.
        sampling: how all requests are decoded, except for their lengths; None if they differ.
        sha256: hash of lengths, contents and decoding; equal at every rate.
        arrivals_sha256: hash of the arrival times.
    """

    name: str
    requests: tuple[Request, ...]
    source: str
    synthetic: bool
    arrival: str
    dropped: Dropped | None = None
    num_unreadable: int = 0
    paper_means: MeanLengths | None = None
    waits: tuple[Wait | None, ...] = ()
    clients: Clients | None = None
    spike: Spike | None = None
    prefixes: tuple[Prompt, ...] = ()
    sampling: SamplingParams | None = field(init=False)
    sha256: str = field(init=False)
    arrivals_sha256: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.requests:
            raise TraceError(f"the trace {self.name} has no requests")
        alike = len({_manner(request.sampling) for request in self.requests}) == 1
        sampling = replace(self.requests[0].sampling, max_tokens=0) if alike else None
        object.__setattr__(self, "sampling", sampling)
        object.__setattr__(self, "sha256", _content_sha256(self.requests, self.waits))
        object.__setattr__(self, "arrivals_sha256", _arrivals_sha256(self.requests, self.clients))

    @property
    def num_dropped(self) -> int:
        return 0 if self.dropped is None else self.dropped.number

    @property
    def mean_prompt_len(self) -> float:
        return sum(request.prompt_len for request in self.requests) / len(self.requests)

    @property
    def mean_output_len(self) -> float:
        return sum(request.reply_len for request in self.requests) / len(self.requests)

    @property
    def last_arrival(self) -> float:
        """Seconds."""
        return self.requests[-1].arrival_time

    @property
    def num_sessions(self) -> int | None:
        """Conversations, single requests included; None if no request waits for a reply."""
        return self.waits.count(None) if self.waits else None

    @property
    def realised_rate(self) -> float:
        """Requests (or first turns of conversations) per second up to the last arrival; inf if all arrive
        at time 0."""
        number = self.num_sessions or len(self.requests)
        return number / self.last_arrival if self.last_arrival > 0 else math.inf

    def max_width(self, max_num_seqs: int) -> int:
        """The most sequences of any request, among requests with at most `max_num_seqs`."""
        widths = (request.sampling.width for request in self.requests)
        return max((width for width in widths if width <= max_num_seqs), default=1)

    def arrivals(self) -> ArrivalSource:
        """A new source, which hands the requests to one engine."""
        if self.waits or self.clients is not None:
            waits = self.waits or (None,) * len(self.requests)
            return SessionArrivals(self.requests, waits, self.clients)
        return FixedArrivals(self.requests)


def _arrivals_sha256(requests: Sequence[Request], clients: Clients | None) -> str:
    times = [request.arrival_time for request in requests]
    digest = hashlib.sha256(_HASH_VERSION + np.array(times, dtype="<f8").tobytes())
    if clients is not None:
        digest.update(b"clients\n" + np.array([clients.number, *clients.pauses], dtype="<f8").tobytes())
    return digest.hexdigest()


def _content_sha256(requests: Sequence[Request], waits: Sequence[Wait | None]) -> str:
    """Hash lengths, seeds, and then parts that only some traces have, as little-endian numbers."""
    digest = hashlib.sha256(_HASH_VERSION)
    lengths = [(request.prompt_len, request.reply_len) for request in requests]
    digest.update(np.array(lengths, dtype="<i8").tobytes())
    digest.update(np.array([request.prompt.seed for request in requests], dtype="<u8").tobytes())
    for index, request in enumerate(requests):
        if request.prompt.token_ids is not None:
            digest.update(np.array([index, *request.prompt.token_ids], dtype="<i8").tobytes())
    segments = [
        (index, segment.seed, segment.start, segment.length)
        for index, request in enumerate(requests)
        for segment in request.prompt.prefix
        if isinstance(segment, Segment)
    ]
    for index, request in enumerate(requests):
        for blocks in request.prompt.prefix:
            if isinstance(blocks, Blocks):
                digest.update(f"blocks {index} {blocks.size!r}\n".encode())
                digest.update(np.array(blocks.ids, dtype="<i8").tobytes())
    if segments:
        digest.update(b"prefixes\n" + np.array(segments, dtype="<u8").tobytes())
    if any(request.sampling.width > 1 or request.sampling.temperature > 0 for request in requests):
        decoding = [
            (item.n, item.beam_width, item.temperature, item.top_p, item.top_k, item.seed)
            for item in (request.sampling for request in requests)
        ]
        digest.update(f"decoding\n{decoding}".encode())
    if waits:
        turns = [-1 if wait is None else wait.requests[0] for wait in waits]
        digest.update(b"turns\n" + np.array(turns, dtype="<i8").tobytes())
    pauses = [
        (index, wait.requests, wait.pause, wait.spacing)
        for index, wait in enumerate(waits)
        if wait is not None and wait != Wait(wait.requests[:1])
    ]
    if pauses:
        digest.update(f"pauses\n{pauses}".encode())
    return digest.hexdigest()


def build_trace(
    dataset: Dataset,
    traffic: Traffic = _USUAL_TRAFFIC,
    *,
    length_scale: float = 1.0,
    num_requests: int | None = None,
    duration: float | None = None,
    max_model_len: int = 2048,
    decoding: SamplingParams = _GREEDY,
    shared: SharedPrefixes = _NOTHING_SHARED,
    seed: int = 0,
) -> Trace:
    """Choose the requests of a run and give them their times.

    Rows with a length below 1, or with prompt + output of `max_model_len` or more, are dropped; a shared
    prefix and the turns before count as prompt. Of the rest the first N in file order are taken
    (repeated if too few) and shuffled. Order is kept with the trace's own timestamps, and where every
    row is used. Conversations stay whole, and arrive as one.

    Args:
        length_scale: lengths are multiplied by this.
        num_requests, duration: the number of requests, or of seconds of arrivals. Without either, 60 s of
            arrivals, or every row at rate inf and with the trace's own timestamps.
        decoding: how replies are decoded unless a row says otherwise; its length is not used.
        shared: texts that precede the prompts.

    Raises:
        TraceError: no request is left. Impossible options are refused by `RunConfig`.
    """
    rows = list(with_histories(scaled(dataset.rows, length_scale)))
    usable, dropped = without_unfit(rows, max_model_len, shared.length)
    if not usable:
        raise _nothing_left(dataset, max_model_len, shared)
    chosen = select(
        usable,
        dataset.name,
        traffic,
        num_requests=num_requests,
        duration=duration,
        seed=seed,
    )
    prompts, prefixes = make_prompts(chosen, shared, seed)
    return Trace(
        name=dataset.name,
        requests=_requests(chosen, prompts, decoding),
        source=dataset.source,
        synthetic=dataset.synthetic,
        arrival=chosen.arrival,
        dropped=dropped,
        num_unreadable=dataset.num_unreadable,
        paper_means=None if shared.length else dataset.paper_means,
        waits=() if set(chosen.waits) == {None} else tuple(chosen.waits),
        clients=chosen.clients,
        spike=chosen.spike,
        prefixes=prefixes,
    )


def _requests(
    chosen: Selection, prompts: Sequence[Prompt], decoding: SamplingParams
) -> tuple[Request, ...]:
    parts = zip(chosen.rows, chosen.times, prompts, strict=True)
    return tuple(
        Request(index, time, prompt, sampling_of(row, decoding), row.output_len, row.session)
        for index, (row, time, prompt) in enumerate(parts)
    )


def _nothing_left(dataset: Dataset, max_model_len: int, shared: SharedPrefixes) -> TraceError:
    prefix = f"a shared prefix of {shared.length} + " if shared.length else ""
    return TraceError(
        f"no row of {dataset.name} is left: all {len(dataset.rows)} have a length below 1, or {prefix}"
        f"prompt + output of {max_model_len} tokens or more: raise --max-model-len, "
        f"{'shorten the prefix, ' if prefix else ''}give a --length-scale below 1, or choose another trace"
    )
