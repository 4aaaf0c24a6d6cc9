"""Records made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pagedbench.metrics.records import Output, RequestRecord, RunRecord, Steps
from pagedbench.metrics.step_rows import STEP_COLUMNS
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, Span, Status

if TYPE_CHECKING:
    from collections.abc import Sequence


def make_steps(
    times: Sequence[tuple[float, float]], decode_ends: Sequence[float] = (), **columns: Sequence[int]
) -> Steps:
    """Iterations from (start, end); columns that are not given are 0, and the pool's rest is free."""
    table = {name: np.zeros(len(times), dtype=np.int64) for name in STEP_COLUMNS}
    table["step"] = np.arange(len(times))
    for name, values in columns.items():
        table[name] = np.array(values, dtype=np.int64)
    return Steps(
        start=np.array([start for start, _ in times], dtype=np.float64),
        end=np.array([end for _, end in times], dtype=np.float64),
        columns=table,
        decode_ends=np.array([0.0, *decode_ends]),
    )


def make_request(
    request_id: int,
    arrival: float,
    *,
    admit: float | None = None,
    finish: float = 0.0,
    prompt_len: int = 10,
    spans: Sequence[tuple[Any, ...]] = (),
    output_len: int | None = None,
    n: int = 1,
    num_preemptions: int = 0,
) -> RequestRecord:
    """A finished request; spans are the values of `Span`, whose prefill_step is None after a swap.

    Without an admission it has failed.
    """
    decided = sum(Span(*span).num_tokens for span in spans)
    sampling = SamplingParams(output_len or decided or 4, n)
    return RequestRecord(
        request=Request(request_id, arrival, Prompt(prompt_len, seed=request_id), sampling),
        status=Status.FAILED if admit is None else Status.FINISHED,
        admit_time=admit,
        finish_time=finish,
        num_preemptions=num_preemptions,
        spans=tuple(Span(*span) for span in spans),
        outputs=() if admit is None else (Output((), 0.0),) * n,
    )


def make_record(steps: Steps, requests: Sequence[RequestRecord], capacity: int = 100) -> RunRecord:
    """A run in which all is in order."""
    parts = ("token_states", "reserved", "internal", "external")
    taken = sum(steps[f"kv_{part}"] for part in parts)
    arrivals = [item.request.arrival_time for item in requests]
    return RunRecord(
        requests=tuple(requests),
        steps=replace(steps, columns={**steps.columns, "kv_free": capacity - taken}),
        capacity=capacity,
        num_arrived=len(requests),
        first_arrival=min(arrivals, default=0.0),
        last_arrival=max(arrivals, default=0.0),
        max_lateness=0.0,
        owned_at_start=0,
        owned_at_end=0,
        interrupted=False,
    )


def small_run(*, with_failed: bool = False) -> RunRecord:
    """Three requests in four iterations, with an idle gap from 3.5 to 5; on demand a failed fourth.

    Token times: request 0 at 2, 2.5, 3.5; request 1 at 2.5, 3.5; request 2 at 6.
    """
    steps = make_steps(
        [(1.0, 2.0), (2.0, 2.5), (2.5, 3.5), (5.0, 6.0)],
        decode_ends=[2.5, 3.5],
        running=[1, 2, 2, 1],
        waiting=[1, 0, 0, 0],
        prefill_tokens=[10, 20, 0, 5],
        decode_tokens=[0, 1, 2, 0],
        kv_token_states=[10, 31, 33, 5],
        kv_reserved=[2, 2, 0, 0],
        kv_internal=[0, 4, 4, 0],
        kv_external=[8, 10, 10, 0],
        kv_rounding=[8, 6, 6, 0],
        kv_unusable=[0, 4, 4, 0],
        preemptions_recompute=[0, 1, 2, 0],
        cow_copies=[0, 0, 3, 1],
    )
    requests = [
        make_request(0, 0.5, admit=1.0, finish=3.5, prompt_len=10, spans=[(0, 0, 2)]),
        make_request(1, 1.5, admit=2.0, finish=3.5, prompt_len=20, spans=[(1, 1, 2)]),
        make_request(2, 4.75, admit=5.0, finish=6.0, prompt_len=5, spans=[(3, 2, 2)]),
    ]
    if with_failed:
        requests.append(make_request(3, 5.25, finish=6.0, prompt_len=500))
    return make_record(steps, requests)


def many_requests(num_requests: int, max_output_len: int, *, seed: int = 0) -> RunRecord:
    """Random requests over as many decoding iterations as they need; recomputed now and then."""
    generator = np.random.default_rng(seed)
    num_steps = num_requests + max_output_len + 1
    ends = np.cumsum(generator.uniform(0.01, 0.05, size=num_steps))
    starts = np.concatenate([[0.0], ends[:-1]])
    steps = make_steps(list(zip(starts, ends, strict=True)), decode_ends=ends)
    requests = []
    for index in range(num_requests):
        length = int(generator.integers(1, max_output_len + 1))
        cut = int(generator.integers(0, length))  # tokens before a preemption
        second = (index + cut, index + cut, index + length - 1)
        spans = [(index, index, index + cut - 1), second] if cut else [second]
        # Iteration i ends decode number i + 1, and computes the prompts of number i.
        requests.append(
            make_request(
                index,
                float(starts[index]) / 2,
                admit=float(starts[index]),
                finish=float(ends[index + length - 1]),
                spans=spans,
                num_preemptions=len(spans) - 1,
            )
        )
    return make_record(steps, requests)
