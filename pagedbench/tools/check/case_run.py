"""Running a case of the check in virtual time, for its footprint."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.backend import SimulatedBackend
from pagedbench.config import FIELDS, RunConfig
from pagedbench.memory.moves import Copy
from pagedbench.metrics.formulas import summarize
from pagedbench.metrics.step_rows import STEP_COLUMNS
from pagedbench.plan import make_plan
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, SequenceGroup
from pagedbench.runs.columns import request_columns, step_columns
from pagedbench.runs.runner import serve
from pagedbench.runs.traces import trace_of
from pagedbench.scheduling.batch import Batch, Prefill
from pagedbench.tools.check.footprint import MICROSECONDS, SAMPLED, Checkpoint, Footprint
from pagedbench.tools.check.watch import DIGEST_LEN, STRIDE, PlacementWatch
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from pagedbench.metrics.records import Steps
    from pagedbench.runs.columns import Column, Columns
    from pagedbench.simulation.cost_model import StepTimes
    from pagedbench.tools.check.footprint import Value
    from pagedbench.tools.check.matrix import Case
    from pagedbench.tools.check.watch import Event

METRICS = ("num_steps", "completed", "failed", "duration_s", "output_throughput",
           "normalized_latency_mean_s", "ttft_mean_ms", "tpot_mean_ms", "running_mean",
           "kv_token_states_pct", "kv_reserved_pct", "kv_internal_pct", "kv_external_pct", "kv_free_pct",
           "kv_shared_saved_pct", "preemptions_recompute", "preemptions_swap", "cow_copies")  # fmt: skip
"""Columns of summary.csv that a footprint keeps for readers."""

COLUMN_DIGEST_LEN = 12

HORIZON = 3600.0
"""Seconds of virtual time after which a run is ended."""


def run_case(case: Case) -> Footprint:
    """The footprint of one run, even if it crashes.

    Raises:
        ConfigError, TraceError: the case cannot be planned.
    """
    plan = make_plan(case.config)
    trace = trace_of(plan, load_dataset(plan.config.trace))
    engine = SimulatedBackend().make_engine(plan, prefixes=trace.prefixes, horizon=HORIZON)
    watch = PlacementWatch(engine)
    record = serve(engine, trace.arrivals())
    watch.finish()
    assert plan.step_times is not None, "the matrix is simulated"
    values = summarize(record)
    return Footprint(
        options=_options(case.config),
        trace=trace.sha256,
        arrivals=_digest(np.array([request.arrival_time for request in trace.requests])),
        step_times=_step_times(plan.step_times),
        crash=record.crash or ("it did not end" if record.interrupted else None),
        num_leaked=watch.num_leaked,
        leaks_from=watch.leaks_from,
        torn=watch.torn,
        torn_from=watch.torn_from,
        num_steps=len(record.steps),
        requests=_digests(request_columns(record)),
        steps=_digests(step_columns(record)),
        checkpoints=_checkpoints(record.steps, watch),
        metrics={name: _rounded(values[name]) for name in METRICS},
    )


def _options(config: RunConfig) -> dict[str, Value]:
    """The options that are not the defaults."""
    default, values = RunConfig(), {name: getattr(config, name) for name in FIELDS}
    changed = {name: value for name, value in values.items() if value != getattr(default, name)}
    return {name: "inf" if value == math.inf else value for name, value in changed.items()}


def _digests(columns: Columns) -> dict[str, str]:
    return {name: _digest(column) for name, column in columns.items()}


def _digest(column: Column) -> str:
    """The digest of a column. Times are rounded to microseconds, on which all machines agree."""
    if isinstance(column, list):
        content = "\n".join(column).encode()
    elif column.dtype.kind == "f":
        scaled = np.rint(MICROSECONDS * column)
        content = np.where(np.isfinite(scaled), scaled, -1).astype("<i8").tobytes()
    else:
        content = column.astype("<i8").tobytes()
    return _hex(content)[:COLUMN_DIGEST_LEN]


def _hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _checkpoints(steps: Steps, watch: PlacementWatch) -> tuple[Checkpoint, ...]:
    events: dict[int, list[Event]] = defaultdict(list)
    for event in watch.events:
        events[event.iteration // STRIDE].append(event)
    rows = np.stack([steps[name] for name in STEP_COLUMNS]).astype("<i8")  # [columns, num_steps]
    return tuple(
        Checkpoint(
            iteration=start,
            time=round(MICROSECONDS * float(steps.start[start])),
            values=tuple(int(steps[name][start]) for name in SAMPLED),
            steps=_hex(rows[:, start : start + STRIDE].tobytes())[:DIGEST_LEN],
            placements=watch.digests[number],
            events=tuple(events[number]),
        )
        for number, start in enumerate(range(0, len(steps), STRIDE))
    )


def _step_times(cost_model: StepTimes) -> dict[str, float]:
    """Milliseconds of a few iterations, by name; each of them shows a change of one cost."""
    group = SequenceGroup(Request(0, 0.0, Prompt(512), SamplingParams(max_tokens=1)), order=0)
    sequence = group.sequences[0]
    empty = Batch(step=0, num_running=1)
    decodes = replace(empty, decodes=[sequence] * 32, decode_context=32 * 256)
    moves = [Copy(16 * number, 16 * number, 16) for number in range(64)]
    batches = {
        "a prompt of 512 tokens": replace(empty, prefills=[Prefill(sequence, 0, 512, (sequence,))]),
        "a decode of 1 sequence": replace(empty, decodes=[sequence], decode_context=256),
        "a decode of 32 sequences": decodes,
        "a decode with a long context": replace(decodes, decode_context=32 * 1024),
        "a decode with 64 copies": replace(decodes, copies=moves),
        "a decode with 64 swapped blocks": replace(decodes, swap_outs=moves),
    }
    return {name: float(f"{1000 * cost_model.step_time(batch):.6g}") for name, batch in batches.items()}


def _rounded(value: Value) -> Value:
    return float(f"{value:.6g}") if isinstance(value, float) else value
