"""`pagedbench policies`: one workload under several policies and pools, compared with bounds."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.exit_codes import CRASHED, INTERRUPTED, INVALID
from pagedbench.runs.interrupts import Interrupts
from pagedbench.runs.options import CommandOptions, takes_run_options
from pagedbench.runs.workers import ExecutorOption, RayAddress, checked_workers, connected

if TYPE_CHECKING:
    from pagedbench.runs.workers import Workers
    from pagedbench.tools.policies.study import Row, Study

SEEDS = 3
"""Runs per entry in virtual time with random arrivals."""


@takes_run_options
def policies(
    options: CommandOptions,
    *,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Runs per policy, with seeds from --seed on \\[3; 1 for a trace's own times and on real "
            "devices].",
            min=1,
            max=100,
            rich_help_panel="Results",
        ),
    ] = None,
    curve: Annotated[
        bool,
        typer.Option(
            "--curve",
            help="Instead measure hit rates of the prefix cache over the size of the pool (--kv-memory, "
            "--kv-slots), alone and in the engine, for each of --eviction \\[lru and belady].",
            rich_help_panel="Results",
        ),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(help="Processes \\[one per core; 1 on a real device].", rich_help_panel="Results"),
    ] = None,
    executor: ExecutorOption = "local",
    ray_address: RayAddress = None,
) -> None:
    """Compare victims, evictions, admissions and preemption modes on one workload, and with their bounds.

    Without --victim, --eviction, --admission and --preemption, each policy of one kind is tried with the
    defaults of the other kinds; with them, all combinations of their lists.

    An interrupted study resumes: with the same --output, complete runs are kept.
    """
    from pagedbench.clock import utc_text
    from pagedbench.runs.file_names import dated_folder
    from pagedbench.tools.policies.curve_command import run_curve

    if options.require_slo is not None:
        raise ConfigError("--require-slo has no effect on policies: the table has the goodput of each")
    folder = options.output or dated_folder("policies", utc_text())
    if curve:
        if seeds is not None:
            raise ConfigError("--seeds has no effect on --curve: each point is one run")
        chosen = partial(checked_workers, executor, ray_address, jobs)
        raise typer.Exit(run_curve(options, chosen, Path(folder)))
    study = _study(options, seeds, Path(folder))
    is_simulated = all(trial.cell.plan.config.is_simulated for trial in study.trials)
    workers = checked_workers(executor, ray_address, jobs, is_simulated=is_simulated)
    if options.dry_run:
        typer.echo(f"{len(study.trials)} runs of {len(study.entries)} entries")
        return
    raise typer.Exit(_run_and_deliver(study, workers, Path(folder), options))


def _run_and_deliver(study: Study, workers: Workers, folder: Path, options: CommandOptions) -> int:
    """Everything after the checks. Returns the exit code."""
    from pagedbench.runs.alone import alone_in

    with connected(workers), alone_in(folder, "policies"):
        if not options.force:
            study.find_done()
        is_interrupted = _run(study, workers, options)
    rows = study.rows()
    for failure in study.failures:
        print(f"Error: {failure}", file=sys.stderr)
    if rows:
        _show(rows, options)
        _save(rows, folder)
        print(f"Saved to {folder}", file=sys.stdout if options.format == "rich" else sys.stderr)
    return _exit_code(study, rows, options, is_interrupted=is_interrupted)


def _study(options: CommandOptions, seeds: int | None, folder: Path) -> Study:
    """All trials; everything is checked before anything runs."""
    from pagedbench.runs.configs import requested, run_configs
    from pagedbench.runs.jobs import prepare
    from pagedbench.tools.policies.entries import entries_of
    from pagedbench.tools.policies.study import Study, trials_of

    configs = run_configs(options)
    if any(config.seed != configs[0].seed for config in configs):
        raise ConfigError("--seed takes one seed here, the first; --seeds says how many follow")
    asked = requested(options)
    entries = entries_of(configs, asked)
    numbered = [
        (number, replace(entry.config, seed=entry.config.seed + offset))
        for number, entry in enumerate(entries)
        for offset in range(seeds or _default_seeds(entry.config.arrival, entry.config.is_simulated))
    ]
    made = prepare([config for _, config in numbered], replace(options, output=folder, force=True))
    jobs = [(number, job) for (number, _), job in zip(numbered, made, strict=True)]
    return Study(entries, trials_of(entries, jobs, folder, options))


def _default_seeds(arrival: str, is_simulated: bool) -> int:
    return SEEDS if is_simulated and arrival != "trace" else 1


def _run(study: Study, workers: Workers, options: CommandOptions) -> bool:
    """Run every trial that is not complete. Returns whether it was interrupted."""
    from pagedbench.runs.cell import run_cells
    from pagedbench.runs.parallel import new_stop
    from pagedbench.show.cells import CellProgress

    cells, stop, number = study.pending, new_stop(), len(study.trials)
    done = number - len(cells)
    with (
        Interrupts(stop.set) as interrupts,
        CellProgress(number, options.progress, done=done) as progress,
    ):
        for cell, outcome in run_cells(cells, workers, stop):
            progress.ended(cell.name, study.take(cell, outcome))
    return interrupts.received


def _show(rows: list[Row], options: CommandOptions) -> None:
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.tools.policies.report import document, print_study

    if options.format == "rich":
        print_study(stdout_console(COMPARE_WIDTH), rows)
    else:
        sys.stdout.write(document(rows, options.format))


def _save(rows: list[Row], folder: Path) -> None:
    """Save the table, and its picture if matplotlib is installed, next to the folders of the runs."""
    from pagedbench.runs.files import write_file
    from pagedbench.show.drawing import can_draw, image
    from pagedbench.tools.policies.picture import chart_of
    from pagedbench.tools.policies.report import document

    for kind in ("csv", "json"):
        write_file(folder / f"policies.{kind}", document(rows, kind).encode())
    if can_draw():
        for kind in ("png", "svg"):
            write_file(folder / f"policies.{kind}", image(chart_of(rows), kind))


def _exit_code(study: Study, rows: list[Row], options: CommandOptions, *, is_interrupted: bool) -> int:
    if is_interrupted:
        return INTERRUPTED
    if study.failures or len(study.runs) < len(study.trials):
        return CRASHED
    return INVALID if options.strict and not all(row["valid"] for row in rows) else 0
