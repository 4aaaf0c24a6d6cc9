"""Cell: one run of a sweep, with the name that it keeps however the sweep grows."""

from __future__ import annotations

import os
import re
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.backend import load_backend
from pagedbench.clock import utc_now
from pagedbench.config import ConfigError, RunConfig, plain
from pagedbench.experiments.machine_load import load_meter
from pagedbench.experiments.memory_pace import read_pace
from pagedbench.experiments.parallel import stopping
from pagedbench.metrics.crash import crash_text
from pagedbench.report.files import write_run
from pagedbench.report.result import make_result

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.backend import Backend
    from pagedbench.engine import Engine
    from pagedbench.experiments.parallel import Stop
    from pagedbench.metrics.records import RunRecord
    from pagedbench.plan import Plan
    from pagedbench.workload.trace import Trace

LETTERS = {"model": "", "device": "", "tensor_parallel_size": "tp", "kv_slots": "slots", "kv_memory": "",
           "n": "n", "beam_width": "k", "block_size": "b", "max_num_seqs": "seqs",
           "max_num_batched_tokens": "tokens", "preemption": "", "prefix_caching": "cache-"}  # fmt: skip
"""List-valued options that the name of a run may hold, each after a word of its own."""

SETTING = ("model", "device", "tensor_parallel_size", "kv_slots", "kv_memory")
"""Those of them that are usually the same in a whole sweep, and stand in a name only where they differ."""

SHARED = ("model", "load_format", "device", "dtype", "kernels", "kv_slots", "tensor_parallel_size", "seed")
"""Options on which a backend depends; cells that agree in them use the same one."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A run to be made. `command` is what was typed, for the manifest."""

    name: str
    plan: Plan
    trace: Trace
    folder: Path
    save_outputs: bool
    command: str


def cell_names(
    plans: Items[Plan], traces: Items[Trace], asked: Items[RunConfig] | None = None
) -> list[str]:
    """A name for every run, from its own options alone, so that a sweep can be resumed with more lists.

    Options of `SETTING` stand in it where they differ, others where they are not the default. Traces of one
    name are told apart by what they hold.

    Args:
        asked: the options as they were given; those of the plans, which are resolved, if None.

    Raises:
        ConfigError: two runs are the same.
    """
    configs, default = asked or [plan.config for plan in plans], RunConfig()
    differences = differing(configs, SETTING)
    names = []
    for config, plan, trace in zip(configs, plans, traces, strict=True):
        usual = {name for name in LETTERS if getattr(config, name) == getattr(default, name)}
        held = [*differences, *(name for name in LETTERS if name not in {*SETTING, *usual})]
        names.append(run_name(config, plan, trace, held))
    times = Counter(names)
    names = [
        f"{name}_{trace.sha256[:8]}" if times[name] > 1 else name
        for name, trace in zip(names, traces, strict=True)
    ]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"{count} runs would be in one folder, {name}: the lists say the same twice")
    return names


def differing(configs: Items[RunConfig], names: Iterable[str]) -> list[str]:
    """The options that are not the same in all runs of a system."""
    systems = {config.system for config in configs}
    return [
        name
        for name in names
        if len({(config.system, getattr(config, name)) for config in configs}) > len(systems)
    ]


def run_name(config: RunConfig, plan: Plan, trace: Trace, held: Iterable[str]) -> str:
    """System, trace, rate, seed and the options `held`, as the name of a folder."""
    rate = "trace" if config.arrival == "trace" else f"{config.rate:g}"
    parts = [plan.system.name, trace.name, f"r{rate}", f"s{config.seed}"]
    for name in held:
        parts.append(LETTERS[name] + plain(getattr(config, name)).rpartition("/")[2])  # of a path its end
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", "_".join(parts))


class CellRunner:
    """Runs cells one after the other, and loads no model twice in a row."""

    def __init__(self) -> None:
        self._backend: Backend | None = None
        self._key: tuple[object, ...] | None = None

    def __call__(self, cell: Cell, stop: Stop) -> str:
        """Run a cell and save it. Returns the status: "complete", "interrupted" or "crashed".

        Raises:
            ReportError: the folder cannot be written.
        """
        backend = self._load(cell.plan)
        backend.warm_up(cell.plan)
        engine = backend.make_engine(
            cell.plan, prefixes=cell.trace.prefixes, save_logprobs=cell.save_outputs
        )
        device = cell.plan.config.device
        pace_before, started = read_pace(device), _now()
        meter = load_meter(device)
        with stopping(stop, engine.stop):
            record = _run(engine, cell.trace)
        load, ended = None if meter is None else meter.read(), _now()
        result = make_result(
            cell.plan,
            cell.trace,
            record,
            command=cell.command,
            started=started,
            ended=ended,
            paces=(pace_before, read_pace(device)),
            load=load,
        )
        write_run(result, cell.folder, force=True, save_outputs=cell.save_outputs)
        return result.status

    def _load(self, plan: Plan) -> Backend:
        key = tuple(getattr(plan.config, name) for name in SHARED)
        if self._backend is None or key != self._key:
            self._backend = None  # two models need not fit at once
            self._backend, self._key = load_backend(plan), key
        return self._backend


def run_simulated_cell(cell: Cell, stop: Stop) -> str:
    """A cell in a process of its own; nothing has to be loaded."""
    return CellRunner()(cell, stop)


def _run(engine: Engine, trace: Trace) -> RunRecord:
    """What was recorded before a crash is kept."""
    try:
        return engine.run(trace.arrivals())
    except Exception as error:
        if os.environ.get("PAGEDBENCH_DEBUG") == "1":
            traceback.print_exception(error)
        return engine.salvage(crash_text(error))


def _now() -> str:
    """The time of day as ISO 8601, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", utc_now())
