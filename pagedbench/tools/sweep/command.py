"""`pagedbench sweep`: systems x traces x rates x ..., one folder per run, resumable, in processes."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.exit_codes import CRASHED, INTERRUPTED, INVALID
from pagedbench.runs.interrupts import Interrupts
from pagedbench.runs.options import CommandOptions, takes_run_options
from pagedbench.runs.workers import ExecutorOption, RayAddress, checked_workers, connected

if TYPE_CHECKING:
    from pagedbench.runs.workers import Workers
    from pagedbench.tools.sweep.sweep import Row, Sweep


@takes_run_options
def sweep(
    options: CommandOptions,
    *,
    jobs: Annotated[
        int | None,
        typer.Option(help="Processes \\[one per core; 1 on a real device].", rich_help_panel="Results"),
    ] = None,
    executor: ExecutorOption = "local",
    ray_address: RayAddress = None,
) -> None:
    """Run all combinations of comma-separated values, one folder per run, and list them in one sweep.csv.

    An interrupted sweep resumes: with the same --output, complete runs are kept and the others run again.
    """
    from pagedbench.clock import utc_text
    from pagedbench.runs.configs import run_configs
    from pagedbench.runs.file_names import dated_folder
    from pagedbench.runs.jobs import prepare

    if options.require_slo is not None:
        raise ConfigError("--require-slo has no effect on a sweep: its table has every slo_attainment")
    folder = options.output or dated_folder("sweep", utc_text())
    configs = run_configs(options)
    made = prepare(configs, replace(options, output=folder, force=True))
    from pagedbench.runs.alone import alone_in
    from pagedbench.runs.cell import cells_of
    from pagedbench.tools.sweep.sweep import Sweep  # numpy, after all refusals

    is_simulated = all(job.plan.config.is_simulated for job in made)
    workers = checked_workers(executor, ray_address, jobs, is_simulated=is_simulated)
    if options.dry_run:
        from pagedbench.show.session import print_plans

        print_plans(made)
        return
    work = Sweep(folder, cells_of(made, folder, options, configs))
    with connected(workers), alone_in(folder, "sweep"):
        if not options.force:
            work.find_done()
        is_interrupted = _run(work, workers, options)
    rows = work.rows()
    _show(rows, options)
    print(f"Saved to {folder}", file=sys.stdout if options.format == "rich" else sys.stderr)
    raise typer.Exit(_exit_code(rows, options, is_interrupted=is_interrupted))


def _run(work: Sweep, workers: Workers, options: CommandOptions) -> bool:
    """Run the pending cells, and keep sweep.csv up to date. Returns whether it was interrupted."""
    from pagedbench.runs.cell import run_cells
    from pagedbench.runs.parallel import new_stop
    from pagedbench.show.cells import CellProgress

    pending, stop = work.pending, new_stop()
    done = len(work.cells) - len(pending)
    with (
        Interrupts(stop.set) as interrupts,
        CellProgress(len(work.cells), options.progress, done=done) as progress,
    ):
        for cell, outcome in run_cells(pending, workers, stop):
            row = work.take(cell, outcome)
            work.write_table()
            progress.ended(cell.name, _outcome_text(row))
    work.write_table()
    return interrupts.received


def _outcome_text(row: Row) -> str:
    from pagedbench.runs.numbers import number
    from pagedbench.runs.result import RunStatus
    from pagedbench.tools.sweep.report import state

    if row["reason"] and row["status"] != RunStatus.COMPLETE:
        return f"{row['status']}: {row['reason']}"
    return f"{number(row['normalized_latency_mean_s'])} s/token, {state(row)}"


def _show(rows: list[Row], options: CommandOptions) -> None:
    from pagedbench.runs.files import csv_text
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.tools.sweep.report import print_sweep, sweep_document
    from pagedbench.tools.sweep.sweep import COLUMNS

    if options.format == "rich":
        print_sweep(stdout_console(COMPARE_WIDTH), rows)
    else:
        sys.stdout.write(
            csv_text(COLUMNS, rows) if options.format == "csv" else sweep_document(rows, options.format)
        )


def _exit_code(rows: list[Row], options: CommandOptions, *, is_interrupted: bool) -> int:
    from pagedbench.runs.result import RunStatus

    if is_interrupted:
        return INTERRUPTED
    if any(row["status"] != RunStatus.COMPLETE for row in rows):
        return CRASHED
    is_usable = all(row["valid"] and not row["machine_busy"] for row in rows)
    return INVALID if options.strict and not is_usable else 0
