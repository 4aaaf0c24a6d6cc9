"""`pagedbench explain`: which parts make up the latency of a saved run, or the difference between two."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.exit_codes import NOT_COMPARABLE

if TYPE_CHECKING:
    from pagedbench.runs.saved import SavedRun

FORMATS = ("rich", "json", "csv", "md")

Run = Annotated[Path, typer.Argument(help="A saved run.", show_default=False)]
OtherRun = Annotated[
    Path | None,
    typer.Argument(help="A second run: the difference is explained.", show_default=False),
]
Across = Annotated[
    str | None, typer.Option(help="Let the runs differ in trace, model, dtype, pool, device or clock.")
]


def explain(
    run: Run,
    other: OtherRun = None,
    across: Across = None,
    format: Annotated[str, typer.Option(help="What stdout shows: rich, json, csv, md.")] = "rich",
) -> None:
    """Explain where the mean latency of a saved run comes from, or the difference between two runs.

    The parts add up: queueing (by what blocked admission), prefill, decode, interference by the prompts of
    others, preemption, swaps, copies. Little's law checks the numbers.
    """
    from pagedbench.runs.attributed import attribution_of
    from pagedbench.runs.pairing import differences_of, parse_across
    from pagedbench.show.console import stdout_console
    from pagedbench.tools.explain.evictions import print_evictions
    from pagedbench.tools.explain.preemptions import print_preemptions
    from pagedbench.tools.explain.report import Explained, explanation_document, print_explanation

    if format not in FORMATS:
        raise ConfigError(f"--format is one of {', '.join(FORMATS)}, not {format!r}")
    keys = parse_across(across)
    if other is None and keys:
        raise ConfigError("--across is for two runs: name a second one, or leave it out")
    runs = [_one_run(path.expanduser()) for path in (run, other) if path is not None]
    differences = differences_of(runs[0], runs[-1], keys)
    if differences:
        out = sys.stdout if format == "rich" else sys.stderr  # a document is whole, or there is none
        print(f"{run} and {other} cannot be compared:", file=out)
        for item in differences:
            print(f"  {item.key}: {item.reference} | {item.candidate}", file=out)
        allowing = ",".join(item.key for item in differences)
        print(f"  to compare them anyway: --across {allowing}", file=out)
        raise typer.Exit(NOT_COMPARABLE)
    explained = [Explained(str(item.folder), item.system, attribution_of(item)) for item in runs]
    if format == "rich":
        print_explanation(stdout_console(), explained)
        for saved in runs:
            print_preemptions(stdout_console(), saved)
            print_evictions(stdout_console(), saved)
    else:
        sys.stdout.write(explanation_document(explained, format))


def _one_run(path: Path) -> SavedRun:
    from pagedbench.runs.saved import load_only_run

    run = load_only_run(path)
    if not run.is_complete:
        raise ConfigError(
            f"the run in {path} was {run.status}: requests that never ended cannot be explained"
        )
    return run
