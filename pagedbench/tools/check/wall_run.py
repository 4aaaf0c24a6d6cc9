"""The short real run of `check --wall`: a small model on the CPU, every run in its own process."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.runs.files import ReportError
from pagedbench.runs.machine import fingerprint
from pagedbench.runs.parallel import Failure, in_processes, stopping
from pagedbench.runs.result import RunStatus
from pagedbench.runs.runner import Runner
from pagedbench.runs.traces import trace_of
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.runs.parallel import Stop
    from pagedbench.runs.result import Result

WALL_RUN = RunConfig(
    model="opt-125m",
    load_format="dummy",
    device="cpu",
    trace="alpaca",
    rate=math.inf,
    num_requests=32,
)
"""All requests arrive at once, so arrival times have no effect."""

WALL_METRICS = ("tpot_p50_ms", "ttft_p50_ms", "output_throughput")

MACHINE = ("cpu", "cores", "usable_cores", "memory", "architecture")
"""Facts in which two machines must agree. Versions of software may differ, since they may be under test."""


def machine() -> dict[str, object]:
    """The facts `MACHINE` of this machine."""
    facts = fingerprint()
    return {name: facts[name] for name in MACHINE}


def obstacle_to(
    wall: dict[str, Any] | None, path: Path, server: dict[str, str] | None = None
) -> str | None:
    """The reason why real runs cannot be compared with those of a baseline; None if they can.

    Args:
        server: whose runs they are; None: our engine's.
    """
    option = "" if server is None else " --base-url"
    advice = f"run pagedbench baseline calibrate{option} on this machine"
    if wall is None or set(wall["runs"]) != set(WALL_METRICS):
        return f"{path} has no figures of real runs: {advice}"
    if (was := wall.get("server")) != server:
        return f"real runs in {path} are of {_whose(was)}, not of {_whose(server)}: {advice}"
    saved: dict[str, object] = wall["machine"]
    for name, here in machine().items():
        if saved.get(name) != here:
            was = f"{name}: {saved.get(name)}, not {here}"
            return f"real runs in {path} were made on another machine ({was}): {advice}"
    return None


def _whose(server: dict[str, str] | None) -> str:
    return "our engine" if server is None else f"a server ({server['product']} with {server['model']})"


class Starved(Exception):
    """Other programs used the machine; the message is one sentence."""


def measure_once(config: RunConfig, stop: Stop) -> dict[str, float] | str | None:
    """The metrics of one run, or a sentence about what starved it; None if it was stopped.

    Raises:
        ValueError: the run lacks a metric.
    """
    plan = make_plan(config)
    trace = trace_of(plan, load_dataset(config.trace))
    runner = Runner()
    result = runner.run(runner.prepare(plan, trace), lambda engine: stopping(stop, engine.stop))
    if result.status is RunStatus.INTERRUPTED:
        return None
    if result.record.crash is not None:
        raise ValueError(f"it crashed with {result.record.crash}")
    if result.load is not None and result.load.is_busy:
        return result.load.sentence
    return figures_of(result)


def figures_of(result: Result) -> dict[str, float]:
    """The metrics of one run.

    Raises:
        ValueError: it lacks one.
    """
    figures = {name: result.values[name] for name in WALL_METRICS}
    found = {name: float(value) for name, value in figures.items() if value is not None}
    if set(found) != set(WALL_METRICS):
        missing = ", ".join(sorted(set(WALL_METRICS) - set(found)))
        raise ValueError(f"it has no {missing}")
    return found


def measure(repeats: int, stop: Stop, config: RunConfig = WALL_RUN) -> dict[str, list[float]] | None:
    """Metric -> one value per run; None if it was stopped.

    Each run is a fresh process: differences between starts belong to the noise of the check.

    Raises:
        ReportError: a run failed.
        Starved: a run was starved, so its times say nothing.
    """
    runs: list[dict[str, float]] = []
    for number in range(repeats):
        print(f"real run {number + 1} of {repeats}", file=sys.stderr)
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
