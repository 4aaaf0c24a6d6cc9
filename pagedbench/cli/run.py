"""`pagedbench run`: one system, one trace, one rate; comma-separated values run as a cross product."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.options import CommandOptions, takes_run_options

if TYPE_CHECKING:
    from pagedbench.config import RunConfig

Repeats = Annotated[
    int,
    typer.Option(
        help="How many times every run is repeated, in the order A B B A; simulated runs take another "
        "seed each time: seed, seed + 1000, and so on.",
        rich_help_panel="Results",
    ),
]


SEED_STEP = 1000
"""The distance of the seeds of repeats, so that --seed 0,1,2 can be repeated without using a seed twice."""


@takes_run_options
def run(options: CommandOptions, *, repeats: Repeats = 1) -> None:
    """Run a system on a trace and print its metrics; comma-separated values run as a cross product."""
    from pagedbench.runs.configs import run_configs
    from pagedbench.runs.jobs import prepare

    jobs = prepare(repeated(run_configs(options), repeats), options)
    from pagedbench.show.comparison import print_comparison
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.show.repeats import print_repeats
    from pagedbench.show.session import (  # numpy; what can be refused has been
        Session,
        print_document,
        print_header,
        print_plans,
    )
    from pagedbench.show.tables import print_result

    if options.dry_run:
        print_plans(jobs)
        return
    session, console = Session(options), stdout_console()
    is_rich = options.format == "rich"
    if is_rich:
        print_header(console, jobs)
    for number, job in enumerate(jobs, start=1):
        title = f"{number}/{len(jobs)}" if len(jobs) > 1 else ""
        if title and is_rich:
            console.rule(f"run {title}: {job.name}")
        finished = session.execute(job, title)
        if is_rich:
            print_result(console, finished.result, finished.folder)
        if session.is_interrupted:
            break
    if not is_rich:
        print_document(session)
    elif len(session.finished) > 1:
        console = stdout_console(COMPARE_WIDTH)
        print_comparison(console, session.results)
        if repeats > 1:
            print_repeats(console, session.results)
    raise typer.Exit(session.conclude())


def repeated(configs: list[RunConfig], repeats: int) -> list[RunConfig]:
    """All runs, then all in reverse, and so on, so that a machine that slows down affects all of them.

    Simulated runs repeat exactly, so each repeat has another seed: SEED_STEP more than the last.
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
            f"--repeats uses seed, seed + {SEED_STEP} and so on, and one of these is also in --seed: give "
            "seeds that are closer together, or one"
        )
    return runs


def _ignores_seed(config: RunConfig) -> bool:
    is_whole = config.num_requests is None and config.duration is None
    return config.arrival == "trace" or (math.isinf(config.rate) and is_whole)
