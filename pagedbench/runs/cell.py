"""Cell: one run of a sweep. Its folder's name depends only on its own options, so sweeps can grow."""

from __future__ import annotations

import re
import shlex
import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError, RunConfig, plain
from pagedbench.option_values import NO_RATE
from pagedbench.runs.files import ReportError, write_files, write_run
from pagedbench.runs.parallel import Failure, stopping
from pagedbench.runs.remains import scratch_folder
from pagedbench.runs.runner import Runner
from pagedbench.runs.workers import in_workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.plan import Plan
    from pagedbench.runs.jobs import Job
    from pagedbench.runs.options import CommandOptions
    from pagedbench.runs.parallel import Stop
    from pagedbench.runs.result import RunStatus
    from pagedbench.runs.workers import Workers
    from pagedbench.workload.trace import Trace

LETTERS = {"arrival": "", "model": "", "device": "", "tensor_parallel_size": "tp", "kv_dtype": "kv-",
           "kv_slots": "slots", "kv_memory": "", "n": "n", "beam_width": "k", "block_size": "b",
           "max_num_seqs": "seqs", "max_num_batched_tokens": "tokens", "preemption": "",
           "victim": "victim-", "admission": "admit-", "prefix_caching": "cache-", "eviction": "evict-",
           "watermark": "w", "prefill": "",
           "page_size": "page-", "commit_ahead": "ahead", "kept_pages": "pages-"}  # fmt: skip
"""List-valued options that may stand in the name of a run, and the letters before their values."""

SETTING = ("model", "device", "tensor_parallel_size", "kv_slots", "kv_memory")
"""Options that are usually the same in a whole sweep: names hold them only if they differ."""

MAX_TRACE_NAME = 60


@dataclass(frozen=True, slots=True)
class Cell:
    """A run to make. `command` is the command line, for the manifest."""

    name: str
    plan: Plan
    trace: Trace
    folder: Path
    save_outputs: bool
    command: str
    save_events: bool = False


def cell_names(
    plans: Items[Plan], traces: Items[Trace], asked: Items[RunConfig] | None = None
) -> list[str]:
    """A name for every run, from its own options, so that a sweep can be resumed with longer lists.

    A name holds options of `SETTING` if they differ between runs, and others if they are not the default.
    Traces of the same name are distinguished by their sha256.

    Args:
        asked: the options as typed; None: the resolved ones of the plans.

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
        raise ConfigError(f"{count} runs would be in one folder, {name}: the lists name a run twice")
    return names


def cells_of(
    jobs: Items[Job], folder: Path, options: CommandOptions, asked: Items[RunConfig] | None = None
) -> list[Cell]:
    """A cell for every job, each with its own folder; `asked` and errors as for `cell_names`."""
    command = shlex.join(["pagedbench", *sys.argv[1:]])
    names = cell_names([job.plan for job in jobs], [job.trace for job in jobs], asked)
    return [
        Cell(name, job.plan, job.trace, folder / name, options.save_outputs, command, options.save_events)
        for name, job in zip(names, jobs, strict=True)
    ]


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
    own_rate = "trace" if config.arrival == "trace" else f"clients-{config.max_concurrency}"
    rate = own_rate if config.arrival in NO_RATE else f"{config.rate:g}"
    short_name = trace.name.strip("-./")[:MAX_TRACE_NAME]
    parts = [plan.system.name, short_name, f"r{rate}", f"s{config.seed}"]
    for name in held:
        parts.append(LETTERS[name] + plain(getattr(config, name)).rpartition("/")[2])  # a path's last part
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", "_".join(parts))


def run_cell(cell: Cell, stop: Stop, runner: Runner | None = None) -> RunStatus:
    """Run a cell and save it. A `runner` shared by several cells does not load a model twice in a row.

    Raises:
        ReportError: the folder cannot be written.
    """
    runner = runner or Runner(cell.command, save_outputs=cell.save_outputs, save_events=cell.save_events)
    ready = runner.prepare(cell.plan, cell.trace)
    result = runner.run(ready, lambda engine: stopping(stop, engine.stop))
    write_run(result, cell.folder, force=True, save_outputs=cell.save_outputs)
    return result.status


@dataclass(frozen=True, slots=True)
class Made:
    """A run that was made on another machine: its files by name."""

    status: RunStatus
    files: dict[str, bytes]


def make_cell(cell: Cell, stop: Stop) -> Made:
    """Run a cell where its folder may not exist."""
    with scratch_folder() as place:
        status = run_cell(replace(cell, folder=place / "run"), stop)
        return Made(status, {path.name: path.read_bytes() for path in (place / "run").iterdir()})


def _saved(cell: Cell, made: Made | Failure) -> RunStatus | Failure:
    if isinstance(made, Failure):
        return made
    try:
        write_files(made.files, cell.folder, force=True)
    except ReportError as error:
        return Failure(str(error))
    return made.status


def run_cells(
    cells: Items[Cell], workers: Workers, stop: Stop
) -> Iterator[tuple[Cell, RunStatus | Failure]]:
    """Run and save cells in workers, or with one job in this process. Yields them as they end."""
    if workers.on_ray:
        made = in_workers(make_cell, cells, workers, stop)
        return ((cell, _saved(cell, outcome)) for cell, outcome in made)
    if workers.jobs != 1 or not cells:
        return in_workers(run_cell, cells, workers, stop)
    first = cells[0]
    runner = Runner(first.command, save_outputs=first.save_outputs, save_events=first.save_events)
    return in_workers(lambda cell, stop: run_cell(cell, stop, runner), cells, workers, stop)
