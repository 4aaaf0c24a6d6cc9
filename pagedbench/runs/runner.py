"""Runner: loads a backend, warms it up, serves a trace, and turns the record into a result."""

from __future__ import annotations

import os
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pagedbench.backend import load_backend
from pagedbench.clock import utc_text
from pagedbench.metrics.crash import crash_text
from pagedbench.metrics.pool_observer import observe
from pagedbench.runs.garbage import GC_THRESHOLDS, rare_collections
from pagedbench.runs.machine_load import load_meter
from pagedbench.runs.memory_bandwidth import read_bandwidth
from pagedbench.runs.prediction import as_client, predict
from pagedbench.runs.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pagedbench.backend import Backend
    from pagedbench.engine import Engine
    from pagedbench.metrics.event_log import EventLog
    from pagedbench.metrics.records import RunRecord
    from pagedbench.plan import Plan
    from pagedbench.workload.arrivals import ArrivalSource
    from pagedbench.workload.trace import Trace

    Watch: TypeAlias = Callable[[Engine], AbstractContextManager[object]]
    """A context around a run: progress, or a signal that ends it."""

SHARED = ("model", "load_format", "device", "dtype", "kv_dtype", "kernels", "kv_slots",
          "tensor_parallel_size", "seed")  # fmt: skip
"""Options on which a backend depends; runs that agree in them use the same backend."""


@dataclass(frozen=True, slots=True)
class Ready:
    """An engine that is about to run.

    Attributes:
        speed: output tokens per second of the warm-up; None if there was no warm-up.
        crash: the error that ended the warm-up, in one line; None if there was none.
        events: gets every change of memory, if it was asked for.
    """

    plan: Plan
    trace: Trace
    engine: Engine
    speed: float | None
    crash: str | None
    events: EventLog | None = None


class Runner:
    """Makes runs one after another, and does not load a model twice in a row.

    Args:
        command: what was typed, for the manifest.
        save_outputs: also record the log-probabilities of outputs.
        save_events: also record every change of memory.
        predicts: also compute intervals for runs on a server's twin, which takes twenty more runs.
    """

    def __init__(
        self,
        command: str = "",
        *,
        save_outputs: bool = False,
        save_events: bool = False,
        predicts: bool = False,
    ) -> None:
        self._command = command
        self._save_outputs = save_outputs
        self._save_events = save_events
        self._predicts = predicts
        self._backend: Backend | None = None
        self._key: tuple[object, ...] | None = None

    def prepare(self, plan: Plan, trace: Trace) -> Ready:
        """Load what the plan needs, and warm it up.

        Raises:
            ConfigError: the model cannot be loaded, or the pool does not fit the device.
        """
        backend = self._load(plan)
        engine = backend.make_engine(
            plan,
            prefixes=trace.prefixes,
            requests=trace.requests,
            save_logprobs=self._save_outputs,
        )
        events = (
            observe(engine.scheduler, engine.memory, plan.config.block_size) if self._save_events else None
        )
        try:
            speed, crash = backend.warm_up(plan, _len_at_start(trace)), None
        except Exception as error:
            speed, crash = None, _crash(error)
        return Ready(plan, trace, engine, speed, crash, events)

    def run(self, ready: Ready, watch: Watch = nullcontext) -> Result:
        """Serve the trace, and measure the machine before, during and after it."""
        device = ready.plan.config.device
        before, started = read_bandwidth(device), utc_text()
        meter = load_meter(device)
        if ready.crash is None:
            with watch(ready.engine):
                record = _serve(ready)
        else:
            record = ready.engine.salvage(ready.crash)
        load = None if meter is None else meter.read()
        return Result(
            ready.plan,
            ready.trace,
            record,
            command=self._command,
            started=started,
            ended=utc_text(),
            bandwidths=(before, read_bandwidth(device)),
            load=load,
            events=ready.events,
            prediction=predict(ready.plan, ready.trace, record) if self._predicts else None,
        )

    def _load(self, plan: Plan) -> Backend:
        key = tuple(getattr(plan.config, name) for name in SHARED)
        if self._backend is None or key != self._key or not self._backend.is_usable:
            self._backend = None  # freed first: two models need not fit together
            self._backend, self._key = load_backend(plan), key
        return self._backend


def _len_at_start(trace: Trace) -> int:
    """Tokens of the requests that are there from the start and wait for no reply.

    On a CPU, a run that uses memory for the first time takes 2 % longer.
    """
    if trace.waits or trace.clients is not None:
        return 0
    return sum(request.final_len for request in trace.requests if request.arrival_time == 0)


def _serve(ready: Ready) -> RunRecord:
    """Serve the trace; on a server's twin, times are those that a client sees."""
    # Users' own classes may decide something in any iteration, and an observer needs every iteration.
    repeats = ready.plan.system.is_built_in and ready.events is None

    def serve_from(source: ArrivalSource) -> RunRecord:
        return serve(ready.engine, source, repeats=repeats)

    twin = ready.plan.twin
    if twin is None:
        return serve_from(ready.trace.arrivals())
    return as_client(serve_from, ready.trace, twin.delay)


def serve(
    engine: Engine,
    source: ArrivalSource,
    gc_thresholds: tuple[int, int, int] = GC_THRESHOLDS,
    *,
    repeats: bool = False,
) -> RunRecord:
    """Serve the source. If it crashes, the record up to then is kept. `repeats`: see `Engine.repeat`."""
    try:
        with rare_collections(gc_thresholds):
            return engine.run(source, repeats=repeats)
    except Exception as error:
        return engine.salvage(_crash(error))


def _crash(error: Exception) -> str:
    """The crash in one line; PAGEDBENCH_DEBUG=1 prints all of it."""
    if os.environ.get("PAGEDBENCH_DEBUG") == "1":
        traceback.print_exception(error)
    return crash_text(error)
