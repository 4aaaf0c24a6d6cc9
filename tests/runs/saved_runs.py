"""Saved runs of a small sweep: two systems, two rates, two seeds of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.backend import SimulatedBackend
from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.runs.files import write_run
from pagedbench.runs.result import Result
from pagedbench.runs.saved import load_run
from pagedbench.runs.traces import trace_of
from pagedbench.workload.dataset import load_dataset
from runs.results import ENDED, STARTED

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.runs.saved import SavedRun

CASES = (
    ("paged", 1.0, 0),
    ("paged", 4.0, 0),
    ("paged", 4.0, 1),
    ("orca-max", 1.0, 0),
    ("orca-max", 4.0, 0),
)
"""System, rate and seed."""


def small_run(
    folder: Path, system: str = "paged", rate: float = 2.0, seed: int = 0, **options: object
) -> SavedRun:
    """A run of 20 s on a simulated device, saved and read back."""
    fields = {"duration": 20.0, **options}
    plan = make_plan(
        RunConfig(system=system, rate=rate, seed=seed, model="opt-13b", device="sim:a100-40gb", **fields)
    )
    trace = trace_of(plan, load_dataset("sharegpt"))
    record = SimulatedBackend().make_engine(plan).run(trace.arrivals())
    result = Result(plan, trace, record, command="pagedbench run", started=STARTED, ended=ENDED)
    return load_run(write_run(result, folder, force=False, save_outputs=False))


def small_sweep(folder: Path) -> list[SavedRun]:
    """The runs of `CASES`."""
    return [
        small_run(folder / f"{system}_r{rate:g}_s{seed}", system, rate, seed)
        for system, rate, seed in CASES
    ]
