"""`pagedbench compare`: every system on the same requests; or saved runs against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError, flag
from pagedbench.runs.options import Given, takes_run_options

if TYPE_CHECKING:
    from pagedbench.tools.compare.saved_runs import Question

PANEL = "What changed"
LIVE_PANEL = "Runs in turns"

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
    typer.Option(
        help="Metrics that may not get worse, or 'default': throughput, TTFT, TPOT, normalized and "
        "end-to-end latency; exit with 3 if one did.",
        rich_help_panel=PANEL,
    ),
]
Threshold = Annotated[
    str | None, typer.Option(help="The change that matters \\[5%].", rich_help_panel=PANEL)
]
Relevance = Annotated[
    str | None,
    typer.Option(help="Smaller changes are called the same \\[0.1%].", rich_help_panel=PANEL),
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

Reference = Annotated[
    str | None,
    typer.Option(
        help="Run another pagedbench in turns with this one; it is the reference.",
        metavar="COMMAND",
        rich_help_panel=LIVE_PANEL,
    ),
]
Repeats = Annotated[
    int | None,
    typer.Option(
        help="Runs of each side, in turns (A B B A) \\[5; 1 in virtual time].", rich_help_panel=LIVE_PANEL
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
    relevance: Relevance = None,
    gate_single_pair: SinglePair = False,
    across: Across = None,
    reference: Reference = None,
    repeats: Repeats = None,
) -> None:
    """Compare every system (or those of --system) on the same requests; or compare saved runs.

    Without folders the systems run, and stand in one table. With two or more folders nothing runs: the
    runs are paired by trace, rate and seed, and what changed is said with statistics. With --gate or
    --repeats and no folders the systems run in turns, and with --reference two programs do; a regression
    is confirmed by as many fresh runs before it fails.
    """
    from pagedbench.tools.compare.live import compare_judged
    from pagedbench.tools.compare.saved_runs import Question, compare_saved

    question = Question(metric, gate, threshold, relevance, gate_single_pair, across)
    if runs:
        for name, value in (("reference", reference), ("repeats", repeats)):
            if value is not None:
                raise ConfigError(f"{flag(name)} has no effect on saved runs: nothing is run")
        compare_saved(given, [path.expanduser() for path in runs], question)
    elif reference is not None or repeats is not None or gate is not None:
        compare_judged(given, question, reference, repeats)
    else:
        _refuse_questions(question)
        compare_live(given)


def _refuse_questions(question: Question) -> None:
    for name in ("metric", "threshold", "relevance", "gate_single_pair", "across"):
        if getattr(question, name):
            raise ConfigError(
                f"{flag(name)} is for runs that are judged: name folders of saved ones, "
                "or ask for --gate, --repeats or --reference"
            )


def compare_live(given: Given) -> None:
    """Run every system on the same requests, and put them in one table."""
    from pagedbench.runs.configs import run_configs
    from pagedbench.runs.jobs import prepare
    from pagedbench.systems import SYSTEMS

    jobs = prepare(run_configs(given, default_systems=tuple(SYSTEMS)), given)
    from pagedbench.show.comparison import print_comparison
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.show.session import (  # numpy; what can be refused has been
        Session,
        print_document,
        print_header,
    )

    if given.dry_run:
        from pagedbench.show.session import print_plans

        print_plans(jobs)
        return
    session, console = Session(given), stdout_console(COMPARE_WIDTH)
    is_rich = given.format == "rich"
    if is_rich:
        print_header(console, jobs)
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
