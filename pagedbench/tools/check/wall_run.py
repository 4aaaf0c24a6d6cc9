"""The short real run of `check --wall`: a small model on the CPU, every run in a process of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.runs.files import ReportError
from pagedbench.runs.machine import fingerprint
from pagedbench.runs.parallel import Failure, in_processes, stopping
from pagedbench.runs.runner import Runner
from pagedbench.runs.traces import trace_of
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.runs.parallel import Stop

WALL_RUN = RunConfig(
    model="opt-125m",
    load_format="dummy",
    device="cpu",
    trace="alpaca",
    rate=math.inf,
    num_requests=32,
)
"""All requests at once, so that nothing depends on when they arrive."""

WALL_METRICS = ("tpot_p50_ms", "ttft_p50_ms", "output_throughput")

MACHINE = ("cpu", "cores", "usable_cores", "memory", "architecture")
"""What makes two machines the same; versions of software may be what is to be judged."""


def machine() -> dict[str, object]:
    """Of this machine, what `MACHINE` names."""
    facts = fingerprint()
    return {name: facts[name] for name in MACHINE}


class Starved(Exception):
    """Other programs took the machine. One sentence."""


def measure_once(config: RunConfig, stop: Stop) -> dict[str, float] | str | None:
    """The metrics of one run, or in a sentence what starved it; None if it was stopped.

    Raises:
        ValueError: the run has no such figures.
    """
    plan = make_plan(config)
    trace = trace_of(plan, load_dataset(config.trace))
    runner = Runner()
    result = runner.run(runner.prepare(plan, trace), lambda engine: stopping(stop, engine.stop))
    if result.status == "interrupted":
        return None
    if result.record.crash is not None:
        raise ValueError(f"it crashed with {result.record.crash}")
    if result.load is not None and result.load.is_busy:
        return result.load.sentence
    figures = {name: result.values[name] for name in WALL_METRICS}
    found = {name: float(value) for name, value in figures.items() if value is not None}
    if set(found) != set(WALL_METRICS):
        raise ValueError("the run is too short for its metrics")
    return found


def measure(
    repeats: int, stop: Stop, tell: Callable[[str], None], config: RunConfig = WALL_RUN
) -> dict[str, list[float]] | None:
    """Metric -> one value a run; None if it was stopped.

    A fresh process each: what differs from one start to the next is noise of the check, too.

    Raises:
        ReportError: a run failed.
        Starved: a run says nothing of the program.
    """
    runs: list[dict[str, float]] = []
    for number in range(repeats):
        tell(f"real run {number + 1} of {repeats}")
        for _, outcome in in_processes(measure_once, [config], 1, stop):
            if isinstance(outcome, Failure) and not stop.is_set():
                raise ReportError(f"a real run failed: {outcome.reason}")
            if isinstance(outcome, str):
                raise Starved(outcome)
            if isinstance(outcome, dict):
                runs.append(outcome)
        if stop.is_set():
            return None
    return {name: [run[name] for run in runs] for name in WALL_METRICS}
