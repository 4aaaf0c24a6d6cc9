"""`pagedbench compare`: every system on the same requests; or saved runs against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.cli.options import Given, takes_run_options
from pagedbench.config import ConfigError, flag

if TYPE_CHECKING:
    from pagedbench.cli.saved_runs import Question

PANEL = "Saved runs"


SavedRuns = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Two or more saved runs, sweeps or folders of runs: the first is the reference.",
        show_default=False,
    ),
]
Metrics = Annotated[
    str | None, typer.Option(help="Metrics to look at, by their columns.", rich_help_panel=PANEL)
]
GateMetrics = Annotated[
    str | None,
    typer.Option(help="Metrics that may not get worse; exit with 3 if one did.", rich_help_panel=PANEL),
]
Threshold = Annotated[
    str | None, typer.Option(help="The change that matters \\[5%].", rich_help_panel=PANEL)
]
SinglePair = Annotated[
    bool,
    typer.Option("--gate-single-pair", help="Let one pair of runs fail the gate.", rich_help_panel=PANEL),
]
Across = Annotated[
    str | None,
    typer.Option(
        help="Let runs differ in trace, model, dtype, pool, device or clock.", rich_help_panel=PANEL
    ),
]


@takes_run_options
def compare(
    given: Given,
    *,
    runs: SavedRuns = None,
    metric: Metrics = None,
    gate: GateMetrics = None,
    threshold: Threshold = None,
    gate_single_pair: SinglePair = False,
    across: Across = None,
) -> None:
    """Compare every system (or those of --system) on the same requests; or compare saved runs.

    Without folders the systems run, and stand in one table. With two or more folders nothing runs: the
    runs are paired by trace, rate and seed, and what changed is said with statistics.
    """
    from pagedbench.cli.saved_runs import Question, compare_saved

    question = Question(metric, gate, threshold, gate_single_pair, across)
    if runs:
        compare_saved(given, [path.expanduser() for path in runs], question)
    _refuse_questions(question)
    compare_live(given)


def _refuse_questions(question: Question) -> None:
    for name in ("metric", "gate", "threshold", "gate_single_pair", "across"):
        if getattr(question, name):
            raise ConfigError(f"{flag(name)} is for saved runs: name their folders, or leave it out")


def compare_live(given: Given) -> None:
    """Run every system on the same requests, and put them in one table."""
    from pagedbench.cli.configs import run_configs
    from pagedbench.cli.jobs import prepare
    from pagedbench.cli.run import print_document, print_plans
    from pagedbench.cli.session import Session
    from pagedbench.report.comparison import print_comparison
    from pagedbench.report.console import COMPARE_WIDTH, stdout_console
    from pagedbench.report.header import header_rows, rows_table
    from pagedbench.systems import SYSTEMS

    jobs = prepare(run_configs(given, default_systems=tuple(SYSTEMS)), given)
    if given.dry_run:
        print_plans(jobs)
        return
    session, console = Session(given), stdout_console(COMPARE_WIDTH)
    is_rich = given.format == "rich"
    if is_rich:
        console.print(rows_table(header_rows([job.plan for job in jobs], [job.trace for job in jobs])))
    for number, job in enumerate(jobs, start=1):
        session.execute(job, f"{job.plan.system.name} ({number}/{len(jobs)})")
        if session.is_interrupted:
            break
    if is_rich:
        print_comparison(console, session.results)
        if len(session.finished) < len(jobs):
            console.print(
                f"Interrupted: {len(jobs) - len(session.finished)} of {len(jobs)} runs never began."
            )
        for finished in session.finished:
            console.print(f"Saved to {finished.folder}", soft_wrap=True)
    else:
        print_document(session)
    raise typer.Exit(session.exit_code)
