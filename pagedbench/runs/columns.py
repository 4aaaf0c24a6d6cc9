"""The tables of a run: a line a request, an iteration, a preemption, a finished sequence."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pagedbench.metrics.recomputed import recomputed_by_request, recomputed_by_step
from pagedbench.metrics.step_rows import STEP_COLUMNS
from pagedbench.scheduling.batch import BlockedBy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from pagedbench.metrics.eviction_costs import Cost
    from pagedbench.metrics.records import RunRecord

FLOAT_FORMAT = "%.9f"
"""Nanoseconds, or billionths of them: equal runs are equal byte for byte."""

MS = 1000.0

PORTION = 4096
"""Rows that are made ready at a time: as Python objects, a million would need a gigabyte."""

Column: TypeAlias = "NDArray[np.int64] | NDArray[np.float64] | list[str]"
Columns: TypeAlias = dict[str, Column]


def request_columns(record: RunRecord) -> Columns:
    """The columns of requests.csv; a failed request has no times but its arrival."""
    table = record.latencies
    return {
        "request_id": np.array([item.request.request_id for item in record.requests], dtype=np.int64),
        "arrival_s": table.arrival,
        "admit_s": table.admit,
        "first_token_s": table.first_token,
        "finish_s": table.finish,
        "prompt_len": table.prompt_len,
        "output_len": table.output_len,
        "n": table.num_sequences,
        "queue_time_ms": MS * table.queue_time,
        "ttft_ms": MS * table.ttft,
        "tpot_ms": MS * table.tpot,
        "e2el_s": table.e2el,
        "normalized_latency_s": table.normalized_latency,
        "preemptions": _known(record, table.num_preemptions),
        "recomputed_tokens": _known(record, recomputed_by_request(record)),
        "cached_tokens": _cached_tokens(record),
        "session_id": [item.request.session_id or "" for item in record.requests],
        "status": [item.status.value for item in record.requests],
    }


def _known(record: RunRecord, counts: NDArray[np.int64]) -> Column:
    """The counts of our engine; nothing of a server's requests."""
    return counts if record.client is None else [""] * len(counts)


def _cached_tokens(record: RunRecord) -> Column:
    """By request; of a server's requests nothing where it does not say."""
    if record.client is None:
        return np.array([item.num_cached for item in record.requests], dtype=np.int64)
    known = [None if item.reply is None else item.reply.num_cached for item in record.requests]
    return ["" if number is None else str(number) for number in known]


def step_columns(record: RunRecord) -> Columns:
    """The columns of steps.csv; what is broadcast only where there are several ranks."""
    steps = record.steps
    first, *others = STEP_COLUMNS
    times: Columns = {"t_s": steps.start, "step_ms": MS * (steps.end - steps.start)}
    names = [kind.name.lower() for kind in BlockedBy]
    reasons = [names[number] for number in steps["blocked_by"].tolist()]
    return {
        first: steps[first],
        **times,
        **{name: steps[name] for name in others if name not in ("evicted_blocks", "blocked_by")},
        "recomputed_tokens": recomputed_by_step(record),
        "evicted_blocks": steps["evicted_blocks"],
        "blocked_by": reasons,
        **({} if record.broadcast_bytes is None else {"broadcast_bytes": record.broadcast_bytes}),
    }


def preemption_columns(record: RunRecord) -> Columns:
    """The columns of preemptions.csv, a row a preemption; `resumed_t_s` is empty where it never was."""
    log, start = record.preemptions, record.steps.start
    return {
        "step": np.array([item.step for item in log], dtype=np.int64),
        "t_s": start[[item.step for item in log]],
        "victim_request_id": np.array([item.victim.request.request_id for item in log], dtype=np.int64),
        "cause_request_id": np.array([item.cause.request.request_id for item in log], dtype=np.int64),
        "mode": [item.mode.value for item in log],
        "blocks_freed": np.array([item.blocks_freed for item in log], dtype=np.int64),
        "tokens_lost": np.array([item.tokens_lost for item in log], dtype=np.int64),
        "resumed_t_s": np.array(
            [math.nan if item.resumed_step is None else start[item.resumed_step] for item in log]
        ),
    }


def eviction_columns(costs: list[tuple[Cost, int, int]], record: RunRecord) -> Columns:
    """The columns of evictions.csv: contents that were evicted together and computed again together."""
    start = np.append(record.steps.start, math.nan)  # an iteration that did not end has no time
    rows = [(*cost, *sizes) for cost, *sizes in costs]
    steps, causes, again_steps, again, blocks, tokens = zip(*rows, strict=True)
    last = len(start) - 1
    return {
        "step": np.array(steps, dtype=np.int64),
        "t_s": start[np.minimum(steps, last)],
        "cause_request_id": ["" if cause is None else cause for cause in causes],
        "again_step": np.array(again_steps, dtype=np.int64),
        "again_t_s": start[np.minimum(again_steps, last)],
        "again_request_id": np.array(again, dtype=np.int64),
        "blocks": np.array(blocks, dtype=np.int64),
        "tokens": np.array(tokens, dtype=np.int64),
    }


def csv_lines(columns: Columns) -> Iterator[str]:
    """Columns as lines of CSV; what is not defined is an empty cell. Words are written as they are."""
    yield ",".join(columns) + "\n"
    line = ",".join("%d" if _is_whole(column) else "%s" for column in columns.values()) + "\n"
    for start in range(0, max(map(len, columns.values())), PORTION):
        portion = [_cells(column[start : start + PORTION]) for column in columns.values()]
        yield from map(line.__mod__, zip(*portion, strict=True))


def _is_whole(column: Column) -> bool:
    return not isinstance(column, list) and column.dtype.kind == "i"


def _cells(column: Column) -> Items[int | str]:
    if isinstance(column, list):
        return column
    values: list[int] = column.tolist()
    if _is_whole(column):
        return values
    return ["" if math.isnan(value) else FLOAT_FORMAT % value for value in values]


def output_lines(record: RunRecord, vocab_size: int) -> Iterator[str]:
    """A JSON object for every finished sequence; within a request, in the order of its sequences.

    A simulation samples nothing: it has no token ids, and no log-probability. A server gives text too.
    """
    for item in record.requests:
        prompt_ids = item.request.prompt.ids(vocab_size).tolist() if item.outputs else []
        for sequence, output in enumerate(item.outputs):
            line = {
                "request_id": item.request.request_id,
                "sequence": sequence,
                "prompt_token_ids": prompt_ids,
                "token_ids": output.token_ids,
                "cumulative_logprob": output.cumulative_logprob if output.token_ids else None,
            }
            if output.text is not None:
                line |= {"cumulative_logprob": None, "text": output.text}
            yield json.dumps(line, separators=(",", ":")) + "\n"
