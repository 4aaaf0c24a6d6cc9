"""The tables of a run: one line per request, iteration, preemption or finished sequence."""

from __future__ import annotations

import json
import math
from itertools import chain
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
"""Nine decimals, of seconds nanoseconds: equal runs are equal byte for byte."""

MS = 1000.0

PORTION = 4096
"""Rows that are formatted at a time: as Python objects, a million would need a gigabyte."""

Column: TypeAlias = "NDArray[np.int64] | NDArray[np.float64] | list[str]"
Columns: TypeAlias = dict[str, Column]


def request_columns(record: RunRecord) -> Columns:
    """The columns of requests.csv; a failed request has no time except its arrival."""
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
    """The counts of our engine; empty cells for the requests of a foreign server."""
    return counts if record.client is None else [""] * len(counts)


def _cached_tokens(record: RunRecord) -> Column:
    """Cached tokens by request; empty where a foreign server does not report them."""
    if record.client is None:
        return np.array([item.num_cached for item in record.requests], dtype=np.int64)
    known = [None if item.reply is None else item.reply.num_cached for item in record.requests]
    return ["" if number is None else str(number) for number in known]


def step_columns(record: RunRecord) -> Columns:
    """The columns of steps.csv; broadcast bytes only if there are several ranks."""
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
    """The columns of preemptions.csv, one row each; `resumed_t_s` is empty if the request never resumed."""
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
    """Columns as CSV, many lines at a time. Undefined values are empty cells; words are not quoted."""
    yield ",".join(columns) + "\n"
    for start in range(0, max(map(len, columns.values())), PORTION):
        parts = [column[start : start + PORTION] for column in columns.values()]
        if len({len(part) for part in parts}) > 1:
            raise ValueError("columns of a table have different lengths")
        formats, cells = zip(*map(_cells, parts), strict=True)
        rows = zip(*(column for column in cells if column is not None), strict=True)
        line = ",".join(formats) + "\n"
        yield line * len(parts[0]) % tuple(chain.from_iterable(rows))


def _cells(column: Column) -> tuple[str, Items[int | float | str] | None]:
    """The format of a column, and the values for it; None if all cells are the same number."""
    if isinstance(column, list):
        return "%s", column
    if column.dtype.kind == "i":
        is_constant = (column == column[0]).all()
        return (str(column[0]), None) if is_constant else ("%d", column.tolist())
    values: list[float] = column.tolist()
    if np.isnan(column).any():
        return "%s", ["" if math.isnan(value) else FLOAT_FORMAT % value for value in values]
    return FLOAT_FORMAT, values


def output_lines(record: RunRecord, vocab_size: int) -> Iterator[str]:
    """A JSON object for every finished sequence; within a request, in the order of its sequences.

    A simulation samples nothing: there are no token ids and no log-probability. A server also gives text.
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
