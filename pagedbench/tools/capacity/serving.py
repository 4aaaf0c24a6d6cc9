"""Serves the runs of a search: by our engine, or by a server that gets the same requests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pagedbench.backend import load_backend
from pagedbench.remote.runner import ServerRunner
from pagedbench.runs.criterion import UntilHopeless
from pagedbench.runs.parallel import stopping
from pagedbench.runs.runner import serve
from pagedbench.tools.capacity.probe import Crashed

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from pagedbench.backend import Backend
    from pagedbench.metrics.records import RunRecord
    from pagedbench.plan import Plan
    from pagedbench.runs.parallel import Stop
    from pagedbench.tools.capacity.probe import Search
    from pagedbench.workload.trace import Trace

    Serve: TypeAlias = Callable[[Plan, Trace], RunRecord]

IDLE_TIMEOUT = 60.0
"""Seconds that a server may take to finish the requests of an earlier run."""

IDLE_PAUSE = 0.5


def serving(search: Search, stop: Stop) -> Serve:
    """A function that serves a trace; its engine or connection is warmed up."""
    if search.server is not None:
        runner = ServerRunner(search.server)
        runner.warm_up(search.plan)
        return lambda plan, trace: _on_server(runner, plan, trace, stop)
    backend = load_backend(search.plan)
    backend.warm_up(search.plan)
    return lambda plan, trace: _on_engine(backend, search, plan, trace, stop)


def _on_engine(backend: Backend, search: Search, plan: Plan, trace: Trace, stop: Stop) -> RunRecord:
    """A run that ends early once it can no longer meet any criterion."""
    engine = backend.make_engine(plan, prefixes=trace.prefixes, requests=trace.requests)
    source = trace.arrivals()
    limits = [criterion.hopeless_latency for criterion in search.criteria]
    if all(limit is not None for limit in limits):
        most = max(limit for limit in limits if limit is not None)
        source = UntilHopeless(source, most, len(trace.requests), engine.stop)
    with stopping(stop, engine.stop):
        return serve(engine, source)


def _on_server(runner: ServerRunner, plan: Plan, trace: Trace, stop: Stop) -> RunRecord:
    """A run that begins when the server reports that nothing runs or waits, if it reports that at all.

    Raises:
        Crashed: it does not become idle.
    """
    until = time.monotonic() + IDLE_TIMEOUT
    while not stop.is_set() and not runner.is_idle:
        if time.monotonic() > until:
            raise Crashed(
                f"the server still had requests, or did not answer, {IDLE_TIMEOUT:g} s after the last run: "
                "they would disturb the next"
            )
        time.sleep(IDLE_PAUSE)
    with stopping(stop, runner.stop.set):
        return runner.run(plan, trace).record
