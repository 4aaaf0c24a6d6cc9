"""Reconstructs the iterations of a server from the times at which a client received tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.tools.calibrate.calibration import Load

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.loadgen.observation import Observation
    from pagedbench.request import Request
    from pagedbench.tools.calibrate.twin.loads import Limits

CLOSE = 0.5
"""Tokens of one iteration arrive within this share of an iteration's time."""

HELD_UP = 0.1
"""Chunks of one reply that follow each other within this share of its usual gap were held up."""

NEXT = 0.3
"""Tokens that follow each other within this share of the shortest iteration are of one iteration."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The load and time of an iteration, as a client saw it.

    Attributes:
        seconds: from the tokens of the previous iteration to its own.
        num_idle: 1 if the server was idle before, otherwise 0. The time then runs from the sending of the
            request, and includes the delay of network, HTTP and tokenizer.
    """

    load: Load
    seconds: float
    num_idle: int


@dataclass(slots=True)
class _Stream:
    """One request with its tokens."""

    request: Request
    sent: float
    times: list[float]  # one per token
    is_seen: list[bool]  # per token: it came alone or first in its chunk, so that its time is exact
    num_cached: int

    @property
    def prompt_len(self) -> int:
        return self.request.prompt_len


@dataclass(slots=True)
class _Cluster:
    """The tokens of one iteration: their streams, and their numbers in these."""

    start: float
    end: float
    tokens: dict[int, int] = field(default_factory=dict)
    decodes: bool = False  # for at least one stream, this is not the first token

    def takes(self, time: float, index: int, own_gap: float | None, shortest: float) -> bool:
        """Does a token that arrived at `time` belong to it?

        Args:
            own_gap: seconds since the stream's previous token; None: it is the first.
            shortest: the gap of a short iteration of this load.
        """
        if index in self.tokens:
            return False
        if time - self.end <= NEXT * shortest:
            return True
        is_like = own_gap is not None and self.decodes
        return time - self.start <= CLOSE * (own_gap if is_like and own_gap else shortest)


def iterations_of(requests: Items[Request], observations: Items[Observation], limits: Limits) -> list[Seen]:
    """The iterations of one load whose time and content a client can infer.

    Tokens that arrive close together belong to one iteration. It computed the prompts of the requests whose
    first token this is, and decoded for the others. Iterations with uncertain content are left out: several
    prompts after the server was idle, some of which may have come too late for the first iteration; and
    prompts that do not fit one iteration together.
    """
    streams = _streams(requests, observations)
    clusters = _clusters(streams)
    found = []
    for previous, cluster in zip([None, *clusters], clusters, strict=False):
        seen = _seen(streams, previous, cluster, limits)
        if seen is not None:
            found.append(seen)
    return found


def _streams(requests: Items[Request], observations: Items[Observation]) -> list[_Stream]:
    by_id = {request.request_id: request for request in requests}
    return [
        _Stream(by_id[item.request_id], item.sent, *_token_times(item), item.num_cached or 0)
        for item in observations
        if item.failure is None and len(item.chunk_times)
    ]


def _token_times(item: Observation) -> tuple[list[float], list[bool]]:
    """The time of every token, and whether it is exact.

    If a chunk has several tokens, its time is that of the last; the others are spread evenly between it and
    the previous chunk: they count for their iterations, which are not timed by them. In the first chunk
    they are as far apart as later ones. Chunks that arrive at once were held up on their way: they count as
    one, and none of them times an iteration.
    """
    gap = float(np.median(np.diff(item.chunk_times))) if len(item.chunk_times) > 1 else 0.0
    times: list[float] = []
    is_seen: list[bool] = []
    for time, count, was_held_up in _arrivals(item, gap):
        before = times[-1] if times else time - count * gap
        times += [time - (time - before) * left / count for left in reversed(range(count))]
        is_seen += [False] * (count - 1) + [not was_held_up] * (count > 0)
    return times, is_seen


def _arrivals(item: Observation, gap: float) -> list[tuple[float, int, bool]]:
    """The times of chunks, the tokens of all that arrived at once, and whether these were several.

    Args:
        gap: the usual one between two chunks.
    """
    counts = [1] * len(item.chunk_times) if item.chunk_tokens is None else item.chunk_tokens.tolist()
    found: list[tuple[float, int, bool]] = []
    for time, count in zip(item.chunk_times.tolist(), counts, strict=True):
        if found and time - found[-1][0] < HELD_UP * gap:
            found[-1] = (time, found[-1][1] + count, True)
        else:
            found.append((time, count, False))
    return found


def _clusters(streams: list[_Stream]) -> list[_Cluster]:
    """The tokens of all streams, one cluster per iteration, in order of time."""
    events = sorted(
        (time, index, token) for index, item in enumerate(streams) for token, time in enumerate(item.times)
    )
    gaps = [gap for item in streams for gap in np.diff(item.times).tolist()]
    shortest = float(np.quantile(gaps, 0.1)) if gaps else 0.0
    clusters: list[_Cluster] = []
    for time, index, token in events:
        own_gap = time - streams[index].times[token - 1] if token else None
        if not clusters or not clusters[-1].takes(time, index, own_gap, shortest):
            clusters.append(_Cluster(time, time))
        last = clusters[-1]
        last.tokens[index], last.end = token, time
        last.decodes |= token > 0
    return clusters


def _seen(
    streams: list[_Stream], previous: _Cluster | None, cluster: _Cluster, limits: Limits
) -> Seen | None:
    """The iteration of a cluster; None if its content or its beginning is uncertain."""
    first = [index for index, token in cluster.tokens.items() if token == 0]
    decoding = [index for index, token in cluster.tokens.items() if token > 0]
    prompts = [streams[index].prompt_len - streams[index].num_cached for index in first]
    other = _prompts_around(streams, previous, cluster) if limits.is_chunked else 0
    if sum(prompts) + len(decoding) + other > limits.batched_tokens:
        return None  # chunks of them may have been computed in other iterations
    gap = _gap(streams, previous, cluster, first)
    if gap is None:
        return None
    seconds, num_idle = gap
    contexts = [streams[index].prompt_len + cluster.tokens[index] for index in decoding]
    load = _load(prompts, [streams[index].num_cached for index in first], contexts)
    return Seen(load, seconds, num_idle)


def _gap(
    streams: list[_Stream], previous: _Cluster | None, cluster: _Cluster, first: list[int]
) -> tuple[float, int] | None:
    """Seconds of an iteration, and 1 if they include the delay of a request that met an idle server."""
    common = [] if previous is None else [index for index in cluster.tokens if index in previous.tokens]
    if common:
        assert previous is not None
        both = ((streams[index], cluster.tokens[index], previous.tokens[index]) for index in common)
        seconds = [
            item.times[token] - item.times[before]
            for item, token, before in both
            if token == before + 1 and item.is_seen[token] and item.is_seen[before]
        ]
        return (median(seconds), 0) if seconds and median(seconds) > 0 else None
    if any(token > 0 for token in cluster.tokens.values()):
        return None  # it decodes for requests that the previous iteration left out
    if not all(streams[index].is_seen[0] for index in first):
        return None
    sent = [streams[index].sent for index in first]
    if previous is not None and min(sent) < previous.start:
        return (cluster.start - previous.start, 0) if max(sent) < previous.start else None
    if previous is not None and any(_runs_on(streams[index], cluster) for index in previous.tokens):
        return None
    return (cluster.start - sent[0], 1) if len(first) == 1 else None


def _runs_on(stream: _Stream, cluster: _Cluster) -> bool:
    """Did it get a token after this iteration?"""
    return stream.times[-1] > cluster.end


def _prompts_around(streams: list[_Stream], previous: _Cluster | None, cluster: _Cluster) -> int:
    """Prompt tokens that may have shared a budget with those of an iteration.

    They waited when it began and were not complete when it ended; or they were completed by the previous
    iteration, which may have begun some of this one's prompts.
    """
    if previous is None:
        began, done = cluster.start, []
    else:
        began, done = previous.start, [index for index, token in previous.tokens.items() if token == 0]
    waiting = [item for item in streams if item.sent < began and item.times[0] > cluster.end]
    has_waited = any(token == 0 and streams[index].sent < began for index, token in cluster.tokens.items())
    if has_waited:
        waiting += [streams[index] for index in done]
    return sum(item.prompt_len - item.num_cached for item in waiting)


def _load(prompts: Items[int], cached: Items[int], contexts: Items[int]) -> Load:
    """The load of an iteration with whole prompts, of which some tokens were in a cache."""
    return Load(
        tokens=sum(prompts) + len(contexts),
        rows=len(prompts) + len(contexts),
        decodes=len(contexts),
        prompts=len(prompts),
        paged_context=sum(contexts),
        contiguous_context=0,
        pairs=sum(new * known + new * (new + 1) // 2 for new, known in zip(prompts, cached, strict=True)),
        copied=0,
        swapped=0,
        moves=0,
    )
