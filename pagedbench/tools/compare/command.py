"""`pagedbench compare`: every system on the same requests; or saved runs, systems or programs, judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pagedbench.config import ConfigError, flag
from pagedbench.runs.options import CommandOptions, takes_run_options

if TYPE_CHECKING:
    from collections.abc import Mapping

PANEL = "What changed"
LIVE_PANEL = "Interleaved runs"


def _option(help: str, *names: str, panel: str = PANEL, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel)


SavedRuns = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Two or more saved runs, sweeps or folders of runs: the first is the reference.",
        show_default=False,
    ),
]
Metrics = Annotated[str | None, _option("Metrics to compare: columns of summary.csv, comma-separated.")]
GateMetrics = Annotated[
    str | None,
    _option(
        "Metrics that must not get worse, or 'default': throughput, TTFT, TPOT, normalized and "
        "end-to-end latency. Exit with 3 if one did."
    ),
]
Threshold = Annotated[str | None, _option("A change of this size fails the gate \\[5%].")]
Relevance = Annotated[str | None, _option("A smaller change counts as none \\[0.1%].")]
SinglePair = Annotated[bool, _option("Let a single pair of runs fail the gate.", "--gate-single-pair")]
Across = Annotated[str | None, _option("Let runs differ in trace, model, dtype, pool, device or clock.")]
Reference = Annotated[
    str | None,
    _option(
        "Interleave runs with those of another pagedbench, the reference.",
        panel=LIVE_PANEL,
        metavar="COMMAND",
    ),
]
TargetList = Annotated[
    str | None,
    _option(
        "Live servers and systems in one table, interleaved: name=URL,other=URL,system.",
        "--target",
        panel=LIVE_PANEL,
        metavar="TARGET[,...]",
    ),
]
Repeats = Annotated[
    int | None,
    _option("Runs of each side, in the order A B B A \\[5; 1 in virtual time].", panel=LIVE_PANEL),
]


@takes_run_options
def compare(
    options: CommandOptions,
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
    target: TargetList = None,
) -> None:
    """Compare every system (or those of --system) on the same requests; or compare saved runs.

    Without folders the systems run, and one table shows them. With two or more folders nothing runs: the
    saved runs are paired by trace, rate and seed, and statistics say what changed. With --gate or
    --repeats but no folders, runs of the systems are interleaved; with --reference, runs of two programs.
    A regression fails the gate only if as many fresh runs confirm it.
    """
    judging = {
        "metric": metric,
        "threshold": threshold,
        "relevance": relevance,
        "gate_single_pair": gate_single_pair,
        "across": across,
    }
    if target is not None:
        _refuse(
            judging | {"gate": gate, "reference": reference}, "--target shows runs in one table unjudged"
        )
        if runs:
            raise ConfigError("--target makes new runs: leave out the folders of saved runs")
        from pagedbench.tools.compare.targets import compare_targets

        compare_targets(options, target, 1 if repeats is None else repeats)
        return
    if not runs and gate is None and reference is None and repeats is None:
        _refuse(
            judging,
            "name folders of saved runs, or give --gate, --repeats or --reference",
        )
        compare_systems(options)
        return
    from pagedbench.tools.compare.question import parse_question

    question = parse_question(metric, gate, threshold, relevance, across, gate_single_pair=gate_single_pair)
    if runs:
        from pagedbench.tools.compare.saved_runs import compare_saved

        for name, option in (("reference", reference), ("repeats", repeats)):
            if option is not None:
                raise ConfigError(f"{flag(name)} has no effect on saved runs: nothing is run")
        compare_saved(options, [path.expanduser() for path in runs], question)
    else:
        from pagedbench.tools.compare.interleaved import compare_interleaved

        compare_interleaved(options, question, reference, repeats)


def _refuse(options: Mapping[str, object], reason: str) -> None:
    """Refuse options for judged runs if no run is judged."""
    for name, value in options.items():
        if value:
            raise ConfigError(f"{flag(name)} is for runs that are judged: {reason}")


def compare_systems(options: CommandOptions) -> None:
    """Run every system on the same requests, and show them in one table."""
    from pagedbench.runs.configs import every_system, run_configs
    from pagedbench.runs.jobs import prepare

    jobs = prepare(run_configs(options, default_systems=every_system(options)), options)
    from pagedbench.show.session import Session, print_plans  # numpy, after all refusals

    if options.dry_run:
        print_plans(jobs)
        return
    from pagedbench.tools.compare.one_table import run_in_one_table

    raise typer.Exit(run_in_one_table(Session(options), jobs))
