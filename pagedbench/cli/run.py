"""`pagedbench run`: one system, one trace, one rate; lists multiply into several runs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.options import CommandOptions, takes_run_options

if TYPE_CHECKING:
    from rich.console import Console

    from pagedbench.config import RunConfig
    from pagedbench.runs.jobs import Job
    from pagedbench.show.session import Session

Repeats = Annotated[
    int,
    typer.Option(
        help="Run everything so often, there and back (A B B A), to see how runs scatter; simulated runs "
        "with other seeds: seed, seed + 1000, and so on.",
        rich_help_panel="Results",
    ),
]


SEED_STEP = 1000
"""Between the seeds of repeats, so that those of --seed 0,1,2 do not meet."""


@takes_run_options
def run(given: CommandOptions, *, repeats: Repeats = 1) -> None:
    """Run a system on a trace and say what it did; comma lists multiply into several runs."""
    from pagedbench.runs.configs import run_configs
    from pagedbench.runs.jobs import prepare

    jobs = prepare(repeated(run_configs(given), repeats), given)
    from pagedbench.show.comparison import print_comparison
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.show.repeats import print_repeats
    from pagedbench.show.session import (  # numpy; what can be refused has been
        Session,
        print_document,
        print_plans,
    )

    if given.dry_run:
        print_plans(jobs)
        return
    session, console = Session(given), stdout_console()
    for number, job in enumerate(jobs, start=1):
        _run_one(session, job, console, f"{number}/{len(jobs)}" if len(jobs) > 1 else "")
        if session.is_interrupted:
            break
    if given.format != "rich":
        print_document(session)
    elif len(session.finished) > 1:
        console = stdout_console(COMPARE_WIDTH)
        print_comparison(console, session.results)
        if repeats > 1:
            print_repeats(console, session.results)
    raise typer.Exit(session.exit_code)


def repeated(configs: list[RunConfig], repeats: int) -> list[RunConfig]:
    """All runs, then all in reverse, and so on: a machine that slows down does no run an injustice.

    Simulated runs repeat exactly, so each repeat has a seed of its own: SEED_STEP more than the last.
    """
    if repeats < 1:
        raise ConfigError(f"--repeats must be at least 1, not {repeats}")
    if repeats > 1 and any(config.is_simulated and _ignores_seed(config) for config in configs):
        raise ConfigError(
            "--repeats has no effect in a simulation whose requests no seed changes (--arrival trace, or "
            "--rate inf with the whole trace): leave it out, or ask for another arrival or --num-requests"
        )
    runs = [
        replace(config, seed=config.seed + SEED_STEP * turn) if config.is_simulated else config
        for turn in range(repeats)
        for config in (configs if turn % 2 == 0 else reversed(configs))
    ]
    if any(config.is_simulated for config in runs) and len(set(runs)) < len(runs):
        raise ConfigError(
            f"--repeats takes seed, seed + {SEED_STEP} and so on, and meets another of --seed: name seeds "
            "that are closer together, or one"
        )
    return runs


def _ignores_seed(config: RunConfig) -> bool:
    is_whole = config.num_requests is None and config.duration is None
    return config.arrival == "trace" or (math.isinf(config.rate) and is_whole)


def _run_one(session: Session, job: Job, console: Console, title: str) -> None:
    """One run, with its header before and its tables after, if people are to read them."""
    from pagedbench.show.header import header_rows, rows_table
    from pagedbench.show.tables import print_result

    if session.given.format != "rich":
        session.execute(job, title)
        return
    if title:
        console.rule(f"run {title}")
    console.print(rows_table(header_rows([job.plan], [job.trace])))
    finished = session.execute(job, title)
    print_result(console, finished.result, finished.folder)
