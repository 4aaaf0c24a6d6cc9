"""Results of runs that were made by hand or simulated."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from metrics.builders import small_run
from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.runs.files import write_run
from pagedbench.runs.result import Result
from pagedbench.workload.dropped import Dropped
from pagedbench.workload.selection import Traffic
from pagedbench.workload.trace import Trace

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.metrics.records import RunRecord

STARTED = "2025-01-31T12:00:05Z"
ENDED = "2025-01-31T12:00:11Z"


def make_plain_result(
    record: RunRecord | None = None,
    config: RunConfig | None = None,
    *,
    name: str = "sharegpt",
    command: str = "pagedbench run",
) -> Result:
    """A result whose trace holds the requests of the record."""
    record = small_run() if record is None else record
    plan = make_plan(config or RunConfig(model="opt-13b", device="sim:a100-40gb"))
    trace = Trace(
        name=name,
        requests=tuple(item.request for item in record.requests),
        source="written by hand",
        synthetic=True,
        arrival="by hand",
        dropped=Dropped(70, 3, 4, 2048, 300.0, 200.0),
    )
    return Result(plan, trace, record, command=command, started=STARTED, ended=ENDED)


def simulated_result(system: str = "paged", seed: int = 0) -> Result:
    """A run of 20 s on a simulated device."""
    from pagedbench.backend import load_backend
    from pagedbench.workload.arrivals import FixedArrivals
    from pagedbench.workload.dataset import load_dataset
    from pagedbench.workload.trace import build_trace

    config = RunConfig(system=system, model="opt-13b", device="sim:a100-40gb", duration=20.0, seed=seed)
    plan = make_plan(config)
    trace = build_trace(load_dataset("sharegpt"), Traffic(rate=2.0), duration=20.0, seed=seed)
    record = load_backend(plan).make_engine(plan).run(FixedArrivals(trace.requests))
    return Result(plan, trace, record, command="pagedbench run", started=STARTED, ended=ENDED)


ALWAYS = {"manifest.json", "config.toml", "summary.json", "summary.csv", "requests.csv", "steps.csv"}


def saved(result: Result, folder: Path, *, force: bool = False, save_outputs: bool = False) -> Path:
    return write_run(result, folder, force=force, save_outputs=save_outputs)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
