"""`pagedbench run`: one system, one trace, one rate; lists multiply into several runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.cli.options import Given, takes_run_options
from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from pagedbench.cli.jobs import Job
    from pagedbench.cli.session import Session
    from pagedbench.config import RunConfig

Repeats = Annotated[
    int,
    typer.Option(
        help="Run everything so often, there and back (A B B A), to see how runs scatter.",
        rich_help_panel="Results",
    ),
]


@takes_run_options
def run(given: Given, *, repeats: Repeats = 1) -> None:
    """Run a system on a trace and say what it did; comma lists multiply into several runs."""
    from pagedbench.cli.configs import run_configs
    from pagedbench.cli.jobs import prepare

    jobs = prepare(repeated(run_configs(given), repeats), given)
    from pagedbench.cli.session import Session  # numpy; what can be refused has been
    from pagedbench.report.comparison import print_comparison
    from pagedbench.report.console import COMPARE_WIDTH, stdout_console

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
        print_comparison(stdout_console(COMPARE_WIDTH), session.results)
    raise typer.Exit(session.exit_code)


def repeated(configs: list[RunConfig], repeats: int) -> list[RunConfig]:
    """All runs, then all in reverse, and so on: a machine that slows down does no run an injustice."""
    if repeats < 1:
        raise ConfigError(f"--repeats must be at least 1, not {repeats}")
    if repeats > 1 and any(config.is_simulated for config in configs):
        raise ConfigError(
            "--repeats has no effect on a simulated device, where equal runs have equal results: "
            "vary the --seed instead"
        )
    return [
        config for turn in range(repeats) for config in (configs if turn % 2 == 0 else reversed(configs))
    ]


def _run_one(session: Session, job: Job, console: Console, title: str) -> None:
    """One run, with its header before and its tables after, if people are to read them."""
    from pagedbench.report.header import header_rows, rows_table
    from pagedbench.report.tables import print_result

    if session.given.format != "rich":
        session.execute(job, title)
        return
    if title:
        console.rule(f"run {title}")
    console.print(rows_table(header_rows([job.plan], [job.trace])))
    finished = session.execute(job, title)
    print_result(console, finished.result, finished.folder)


def print_plans(jobs: list[Job]) -> None:
    """What would run (--dry-run)."""
    from pagedbench.report.console import stdout_console
    from pagedbench.report.header import dry_run_rows, rows_table

    console = stdout_console()
    for number, job in enumerate(jobs, start=1):
        if len(jobs) > 1:
            console.rule(f"run {number}/{len(jobs)}")
        console.print(rows_table(dry_run_rows(job.plan, job.trace)))
    console.print("Nothing was run or written (--dry-run).")


def print_document(session: Session) -> None:
    """The document of --format on stdout, and where the folders are on stderr."""
    from pagedbench.report.documents import document

    folders = [finished.folder for finished in session.finished]
    sys.stdout.write(document(session.results, folders, session.given.format))
    for folder in folders:
        print(f"Saved to {folder}", file=sys.stderr)
