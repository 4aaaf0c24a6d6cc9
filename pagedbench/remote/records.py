"""From a client's observations to the record of a run, of which every metric is a function."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.loadgen.wire import Failure
from pagedbench.metrics.client import ClientView, Peak, Problem, SeenReply, busiest_second
from pagedbench.metrics.records import Output, RequestRecord, RunRecord, Steps
from pagedbench.metrics.step_rows import STEP_COLUMNS
from pagedbench.request import Status

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from pagedbench.loadgen.observation import Observation
    from pagedbench.request import Request

KINDS = {
    Failure.CONNECTION: "lost their connection",
    Failure.TIMEOUT: "did not end in time",
    Failure.STATUS: "were refused",
    Failure.PROTOCOL: "got an incomplete reply",
    Failure.STOPPED: "were under way when the run was stopped",
    Failure.SKIPPED: "were not sent",
}
NO_TOKEN = "no token arrived"

TEXT_TOLERANCE, TEXT_TOKENS = 0.05, 2
"""By how much the length of a text prompt may differ: a share of it or tokens, whichever is more."""


def record_of(
    requests: Items[Request],
    observations: Items[Observation],
    lags: NDArray[np.float64],
    *,
    forces_lengths: bool,
    takes_token_ids: bool,
    certified: Peak | None,
    was_stopped: bool,
    remarks: tuple[str, ...] = (),
) -> RunRecord:
    """The record of a run against a server.

    Args:
        observations: one per request, in any order.
        lags: seconds from the scheduled time to the first byte; NaN for requests that were not sent.
        takes_token_ids: prompts were sent as token ids, so that their lengths are exact.
        was_stopped: the user stopped the run; requests that were not sent then do not count as failed.
    """
    by_id = {item.request_id: item for item in observations}
    pairs = [(request, by_id[request.request_id]) for request in requests]
    if was_stopped:
        pairs = [(request, seen) for request, seen in pairs if seen.failure is not Failure.SKIPPED]
    records = [_record(request, seen) for request, seen in pairs]
    arrivals = [item.request.arrival_time for item in records]
    nothing: NDArray[np.float64] = np.empty(0)
    return RunRecord(
        requests=tuple(records),
        steps=Steps(nothing, nothing, {name: np.empty(0, np.int64) for name in STEP_COLUMNS}, np.zeros(1)),
        capacity=0,
        num_arrived=len(records),
        first_arrival=min(arrivals, default=0.0),
        last_arrival=max(arrivals, default=0.0),
        max_lateness=0.0,
        owned_at_start=0,
        owned_at_end=0,
        interrupted=was_stopped,
        client=ClientView(
            lags=lags[np.isfinite(lags)],
            problems=_problems([seen for _, seen in pairs]),
            num_other_prompts=sum(
                _has_other_prompt(request, seen, is_exact=takes_token_ids) for request, seen in pairs
            ),
            forces_lengths=forces_lengths,
            certified=certified,
            peak=Peak(
                busiest_second(np.array(arrivals, dtype=np.float64)),
                busiest_second(np.concatenate([nothing, *(seen.chunk_times for _, seen in pairs)])),
            ),
            remarks=remarks,
        ),
    )


def _failure(seen: Observation) -> tuple[Failure, str] | None:
    """Why a request has no complete reply, and details; None: it has one."""
    if seen.failure is not None:
        return seen.failure, seen.detail
    return None if len(seen.chunk_times) else (Failure.PROTOCOL, NO_TOKEN)


def _record(request: Request, seen: Observation) -> RequestRecord:
    arrived = replace(request, arrival_time=float(seen.scheduled))
    finish = float(seen.finish)
    if _failure(seen) is not None:
        return RequestRecord(arrived, Status.FAILED, None, finish, 0, (), ())
    num_tokens = len(seen.chunk_times) if seen.output_len is None else seen.output_len
    is_single = seen.chunk_tokens is None or bool((seen.chunk_tokens == 1).all())
    reply = SeenReply(
        times=seen.chunk_times,
        num_tokens=num_tokens,
        is_counted=seen.output_len is not None,
        has_token_times=is_single and num_tokens == len(seen.chunk_times),
        num_first=_num_first(seen, num_tokens),
        num_cached=seen.num_cached,
    )
    output = Output(seen.token_ids or (), np.nan, seen.text)
    return RequestRecord(arrived, Status.FINISHED, None, finish, 0, (), (output,), reply=reply)


def _problems(observations: Items[Observation]) -> tuple[Problem, ...]:
    """Failures by kind, the most frequent first, each with its most frequent cause."""
    details: dict[Failure, Counter[str]] = {}
    for failure in map(_failure, observations):
        if failure is not None:
            details.setdefault(failure[0], Counter())[failure[1]] += 1
    found = [Problem(KINDS[kind], own.total(), own.most_common(1)[0][0]) for kind, own in details.items()]
    return tuple(sorted(found, key=lambda item: -item.number))


def _num_first(seen: Observation, num_tokens: int) -> int:
    """Tokens of the first chunk."""
    if len(seen.chunk_times) == 1:
        return num_tokens
    return 1 if seen.chunk_tokens is None else max(int(seen.chunk_tokens[0]), 1)


def _has_other_prompt(request: Request, seen: Observation, *, is_exact: bool) -> bool:
    if seen.prompt_len is None:
        return False
    tolerated = 0.0 if is_exact else max(TEXT_TOLERANCE * request.prompt_len, TEXT_TOKENS)
    return abs(seen.prompt_len - request.prompt_len) > tolerated
