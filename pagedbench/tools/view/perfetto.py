"""A run as a trace for ui.perfetto.dev: requests, the parts of the pool, preemptions, evictions."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pagedbench.metrics.event_log import NONE, Event
from pagedbench.runs.events_file import read_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagedbench.runs.saved import SavedRun

    TraceEvent = dict[str, Any]

REQUESTS, POOL = 1, 2
PARTS = ("kv_token_states", "kv_reserved", "kv_internal", "kv_external", "kv_free")
BATCH = ("running", "waiting", "swapped")


def perfetto_trace(run: SavedRun) -> str:
    """Chrome's trace format as JSON; times in microseconds.

    Raises:
        ConfigError: the run has no events, or a file of it is damaged.
    """
    events = [
        _name("process_name", REQUESTS, f"Requests of {run.system}"),
        _name("process_name", POOL, "KV pool (slots) and batch"),
        *_requests(run),
        *_counters(run),
        *_preemptions(run),
        *_evictions(run),
    ]
    about = {"system": run.system, "run_id": run.manifest["run_id"], "device": run.config["device"]}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": about})


def _name(kind: str, process: int, name: str, thread: int = 0) -> TraceEvent:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "ts": 0, "args": {"name": name}}


def _micros(seconds: float) -> float:
    return round(seconds * 1e6, 3)


def _span(name: str, request: int, start: float, end: float, **arguments: object) -> TraceEvent:
    duration = round(_micros(end) - _micros(start), 3)
    return {"ph": "X", "cat": "request", "name": name, "pid": REQUESTS, "tid": request + 1,
            "ts": _micros(start), "dur": duration, "args": arguments}  # fmt: skip


def _requests(run: SavedRun) -> Iterator[TraceEvent]:
    """One track per request: queued, prefill, running, preempted."""
    pauses: dict[int, list[tuple[float, float, str, int]]] = {}
    if run.preemptions is not None:
        names = ("victim_request_id", "t_s", "resumed_t_s", "mode", "tokens_lost")
        for victim, *pause in zip(*(run.preemptions[name].tolist() for name in names), strict=True):
            pauses.setdefault(victim, []).append((pause[0], pause[1], pause[2], pause[3]))
    columns = (
        "request_id",
        "arrival_s",
        "admit_s",
        "first_token_s",
        "finish_s",
        "prompt_len",
        "output_len",
    )
    for values in zip(*(run.requests[name].tolist() for name in columns), strict=True):
        request, arrival, admit, first_token, finish, prompt_len, output_len = values
        yield _name("thread_name", REQUESTS, f"request {request}", request + 1)
        if math.isnan(admit) or math.isnan(finish):
            continue
        yield _span("queued", request, arrival, admit, prompt_len=prompt_len, output_len=output_len)
        own = pauses.get(request, [])
        yield from _stretches(request, admit, first_token, finish, own)
        for start, end, mode, lost in own:
            until = finish if math.isnan(end) else end
            yield _span("preempted", request, start, until, mode=mode, tokens_lost=lost)


def _stretches(
    request: int,
    admit: float,
    first_token: float,
    finish: float,
    pauses: list[tuple[float, float, str, int]],
) -> Iterator[TraceEvent]:
    """The times between preemptions: prefill until the first token, then running."""
    cuts = [admit, *(time for pause in pauses for time in pause[:2] if not math.isnan(time)), finish]
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        if start < first_token:
            yield _span("prefill", request, start, min(first_token, end))
        if end > first_token:
            yield _span("running", request, max(first_token, start), end)


def _counters(run: SavedRun) -> Iterator[TraceEvent]:
    """The parts of the pool and the batch, at every change."""
    times = run.steps["t_s"].tolist()
    for name, columns in (("KV pool", PARTS), ("batch", BATCH)):
        values = run.steps[list(columns)].to_numpy(dtype=np.int64)
        changed = np.append(True, (np.diff(values, axis=0) != 0).any(axis=1))
        for row in np.flatnonzero(changed).tolist():
            parts = dict(
                zip((item.removeprefix("kv_") for item in columns), values[row].tolist(), strict=True)
            )
            yield {"ph": "C", "name": name, "pid": POOL, "tid": 0, "ts": _micros(times[row]), "args": parts}


def _instant(name: str, seconds: float, **arguments: object) -> TraceEvent:
    return {"ph": "i", "s": "p", "cat": "memory", "name": name, "pid": POOL, "tid": 0,
            "ts": _micros(seconds), "args": arguments}  # fmt: skip


def _preemptions(run: SavedRun) -> Iterator[TraceEvent]:
    if run.preemptions is None:
        return
    names = ("t_s", "victim_request_id", "cause_request_id", "mode", "blocks_freed", "tokens_lost")
    for values in zip(*(run.preemptions[name].tolist() for name in names), strict=True):
        yield _instant("preemption", values[0], **dict(zip(names[1:], values[1:], strict=True)))


def _evictions(run: SavedRun) -> Iterator[TraceEvent]:
    """One mark for all blocks that were evicted for a request at the same time."""
    table, _ = read_events(run.folder)
    is_eviction = (table.event == Event.EVICT) & ~np.isnan(table.t_s)
    keys = np.column_stack((table.t_s[is_eviction], table.request_id[is_eviction]))
    found, counts = np.unique(keys, axis=0, return_counts=True)
    for (seconds, request), count in zip(found.tolist(), counts.tolist(), strict=True):
        cause = None if request == NONE else int(request)
        yield _instant("eviction", seconds, cause_request_id=cause, blocks=count)
