"""Result: one run with its plan, its trace and its metrics; the row it makes in summary.csv."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from pagedbench.metrics.formulas import METRICS, Value, parse_slo, summarize
from pagedbench.option_values import NO_RATE
from pagedbench.runs.file_names import compact_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from pagedbench.metrics.event_log import EventLog
    from pagedbench.metrics.records import RunRecord
    from pagedbench.metrics.slo import Slo
    from pagedbench.plan import Plan
    from pagedbench.runs.machine_load import Load
    from pagedbench.runs.prediction import Prediction
    from pagedbench.workload.trace import Trace

Bandwidths: TypeAlias = "tuple[float | None, float | None]"
"""Memory bandwidth before and after a run, in bytes per second; None where it was not read."""

IDENTITY: dict[str, Callable[[Plan, Trace], object]] = {
    "label": lambda plan, _: plan.config.label or _own_name(plan),
    "system": lambda plan, _: plan.system.name,
    "model": lambda plan, _: plan.config.model,
    "device": lambda plan, _: plan.config.device,
    "dtype": lambda plan, _: plan.config.dtype,
    "kv_dtype": lambda plan, _: plan.config.kv_dtype,
    "kernels": lambda plan, _: plan.kernels,
    "trace": lambda _, trace: trace.name,
    "trace_sha256": lambda _, trace: trace.sha256,
    "arrival": lambda plan, _: plan.config.arrival,
    "rate": lambda plan, _: None if plan.config.arrival in NO_RATE else plan.config.rate,
    "burstiness": lambda plan, _: plan.config.burstiness,
    "n": lambda _, trace: None if trace.sampling is None else trace.sampling.n,
    "beam_width": lambda _, trace: None if trace.sampling is None else trace.sampling.beam_width,
    "seed": lambda plan, _: plan.config.seed,
    "block_size": lambda plan, _: plan.config.block_size,
    "kv_slots": lambda plan, _: plan.kv_slots,
    "cost_model": lambda plan, _: plan.cost_model,
    "tensor_parallel_size": lambda plan, _: plan.config.tensor_parallel_size,
    "max_num_seqs": lambda plan, _: plan.config.max_num_seqs,
    "max_num_batched_tokens": lambda plan, _: plan.config.max_num_batched_tokens,
    "preemption": lambda plan, _: plan.config.preemption,
    "victim": lambda plan, _: plan.config.victim if plan.system.manager.preempts else None,
    "admission": lambda plan, _: plan.config.admission if plan.system.manager.preempts else None,
    "prefix_caching": lambda plan, _: plan.config.prefix_caching,
    "eviction": lambda plan, _: plan.config.eviction if plan.caches_prefixes else None,
    "prefill": lambda plan, _: None if plan.system.is_request_level else plan.config.prefill,
    "watermark": lambda plan, _: plan.config.watermark if plan.system.manager.has_watermark else None,
    "page_size": lambda plan, _: plan.config.page_size if plan.pages else None,
    "commit_ahead": lambda plan, _: plan.config.commit_ahead if plan.pages else None,
    "kept_pages": lambda plan, _: plan.config.kept_pages if plan.pages else None,
}
"""What a run is, by the columns of summary.csv.

The name of a user's own class is the label, unless the run was given one. `n` and `beam_width` are None if
requests differ in them. `cost_model` is the source of a simulated run's step times.
"""

OF_SERVERS = ("label", "system", "model", "trace", "trace_sha256", "arrival", "rate", "burstiness", "n",
              "beam_width", "seed")  # fmt: skip
"""The columns that are known of a run against a server, besides its pool if it reports that."""

IDENTITY_COLUMNS = ("run_id", *IDENTITY)
"""The columns of summary.csv that identify the run; those of `METRICS` follow."""


def _own_name(plan: Plan) -> str | None:
    """The name of a system with classes of the user."""
    return None if plan.system.is_built_in or plan.server is not None else plan.system.name


class RunStatus(StrEnum):
    """How a run ended."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class ServerSide:
    """What only a run against a server has.

    Attributes:
        options: how the server was reached, by the names of options.
        samples: the server's own metrics, by the columns of server.csv; None if it has none.
        is_cache_fresh: no request of an earlier run can have left its prompt in the server's cache.
    """

    options: Mapping[str, str | float]
    samples: Mapping[str, NDArray[np.float64]] | None
    is_cache_fresh: bool = False


@dataclass(frozen=True)  # without slots, because cached_property needs a __dict__
class Result:
    """One finished run: its plan, its trace and its record, from which its metrics follow.

    Attributes:
        command: what was typed.
        started, ended: times in UTC, as ISO 8601.
        bandwidths: memory bandwidth before and after the run, in bytes per second; None if not read.
        load: load of the machine during the run; None in virtual time, and if it is not known.
        events: every change of memory, if it was asked for.
        prediction: how far a run on a server's twin may be off; None for other runs.
        server: what only a run against a server has; None: our engine served it.
    """

    plan: Plan
    trace: Trace
    record: RunRecord
    command: str
    started: str
    ended: str
    bandwidths: Bandwidths = (None, None)
    load: Load | None = None
    events: EventLog | None = None
    prediction: Prediction | None = None
    server: ServerSide | None = None

    @cached_property
    def run_id(self) -> str:
        """Its own name."""
        return f"{compact_time(self.started)}-{self.plan.system.name}-{uuid.uuid4().hex[:8]}"

    @property
    def status(self) -> RunStatus:
        """How it ended."""
        if self.record.crash is not None:
            return RunStatus.CRASHED
        return RunStatus.INTERRUPTED if self.record.interrupted else RunStatus.COMPLETE

    @cached_property
    def values(self) -> dict[str, Value]:
        """Every metric by its name; None where it is not defined."""
        return summarize(self.record, self.slo, self.trace.spike)

    @property
    def slo(self) -> Slo | None:
        """The bounds that the run was asked to meet."""
        return slo_of(self.plan)

    @property
    def is_busy(self) -> bool:
        """Did other programs starve the run? False if that is not known."""
        return self.load is not None and self.load.is_busy

    @property
    def is_usable(self) -> bool:
        """May its figures be used: is it valid, and was it not starved?"""
        return bool(self.values["valid"]) and not self.is_busy

    @property
    def state(self) -> str:
        """The state of the run in one word."""
        return state_word(
            self.status,
            is_valid=bool(self.values["valid"]),
            is_busy=self.is_busy,
            is_overloaded=bool(self.values["overloaded"]),
        )


def state_word(status: str, *, is_valid: bool, is_busy: bool, is_overloaded: bool) -> str:
    """The state of a run in one word: the strongest objection to its figures."""
    if status != "complete":
        return status
    if not is_valid:
        return "invalid"
    return "busy" if is_busy else "overloaded" if is_overloaded else "valid"


def slo_of(plan: Plan) -> Slo | None:
    """The bounds of a plan, if it has any."""
    return parse_slo(plan.config.slo) if plan.config.slo else None


def identity_of(plan: Plan, trace: Trace) -> dict[str, object]:
    """The columns of `IDENTITY`; None where a value is not defined, or not known for a server."""
    if plan.server is None:
        return {name: value(plan, trace) for name, value in IDENTITY.items()}
    known = {name: value(plan, trace) for name, value in IDENTITY.items() if name in OF_SERVERS}
    return {**dict.fromkeys(IDENTITY), **known, "kv_slots": plan.server.kv_slots}


def summary_row(result: Result) -> dict[str, object]:
    """Exactly the columns of summary.csv, in order; None where a value is not defined."""
    metrics = {metric.name: result.values[metric.name] for metric in METRICS}
    return {"run_id": result.run_id} | identity_of(result.plan, result.trace) | metrics
