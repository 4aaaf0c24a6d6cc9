"""`pagedbench baseline`: save, list and show baselines of the check, and calibrate its real runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.exit_codes import INTERRUPTED, INVALID
from pagedbench.runs.interrupts import Interrupts
from pagedbench.tools.check.command import (
    BaselineFile,
    BaseUrl,
    Model,
    asked_server,
    chosen_cases,
    faulty_names,
    measured,
    run_cases,
)

if TYPE_CHECKING:
    from typing import Any

app = typer.Typer(help="Save, list, show or calibrate baselines of `pagedbench check`.")


@app.callback(invoke_without_command=True)
def _start(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def save(
    output: Annotated[
        Path | None, typer.Option(help="The file \\[pagedbench-baseline.json].", metavar="FILE")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
) -> None:
    """Run the matrix of the check, and save its results. Real runs of a replaced file are kept."""
    from pagedbench.runs.files import check_files
    from pagedbench.runs.numbers import counted
    from pagedbench.tools.check.baseline_file import NAME, new_baseline, write_baseline

    path = Path(NAME) if output is None else output.expanduser()
    check_files([path], force=force)
    cases, stop = chosen_cases(None), Event()
    with Interrupts(stop.set):
        footprints = run_cases(cases, stop)
    if len(footprints) < len(cases):
        raise typer.Exit(INTERRUPTED)
    faulty = faulty_names(footprints)
    if faulty:
        print(f"Error: nothing is saved: {faulty} crashed or leaked memory", file=sys.stderr)
        raise typer.Exit(INVALID)
    write_baseline(new_baseline(footprints, _wall_in(path)), path)
    print(f"Saved {counted(len(footprints), 'case')} to {path}")


def _wall_in(path: Path) -> dict[str, Any] | None:
    from pagedbench.tools.check.baseline_file import read_baseline

    try:
        return read_baseline(path).wall if path.exists() else None
    except ConfigError:  # the replaced file was not a baseline
        return None


@app.command("list")
def list_baselines() -> None:
    """List the baselines that a check would find: the current folder's, then the package's."""
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.tools.check.baseline_file import NAME, PACKAGED
    from pagedbench.tools.check.baseline_report import print_baselines

    found = [path for path in (Path(NAME), PACKAGED) if path.exists()]
    if not found:
        raise ConfigError("there is no baseline: pagedbench baseline save writes one")
    rows = [_row(path, is_used=path is found[0]) for path in found]
    print_baselines(stdout_console(COMPARE_WIDTH), rows)


def _row(path: Path, *, is_used: bool) -> list[str]:
    from pagedbench.tools.check.baseline_file import PACKAGED, read_baseline
    from pagedbench.tools.check.baseline_report import COMMIT_LEN

    name, use = "the package's" if path == PACKAGED else str(path), "in use" if is_used else ""
    try:
        saved = read_baseline(path)
    except ConfigError as error:
        return [name, use, str(error), "", "", "", ""]
    commit = (saved.commit or "-")[:COMMIT_LEN]
    real = "-" if saved.wall is None else saved.wall["saved"]
    return [name, use, saved.saved, saved.version, commit, str(len(saved.cases)), real]


@app.command()
def show(baseline: BaselineFile = None) -> None:
    """Show the cases of a baseline with their key figures, and what its real runs can detect."""
    from pagedbench.show.console import COMPARE_WIDTH, say, stdout_console
    from pagedbench.tools.check.baseline_file import find_baseline, read_baseline
    from pagedbench.tools.check.baseline_report import origin, print_cases, print_noise
    from pagedbench.tools.check.wall import noise_of

    path = find_baseline(None if baseline is None else baseline.expanduser())
    saved, console = read_baseline(path), stdout_console(COMPARE_WIDTH)
    print_cases(console, {name: footprint.metrics for name, footprint in saved.cases.items()})
    say(console, f"{path}: {origin(saved.version, saved.commit, saved.saved)}")
    if saved.wall is not None:
        runs = saved.wall["runs"]
        print_noise(console, noise_of(runs), min(map(len, runs.values())))


@app.command()
def calibrate(
    repeats: Annotated[
        int,
        typer.Option(help="Number of equal runs, of our engine each in its own process.", min=3, max=100),
    ] = 5,
    baseline: BaselineFile = None,
    base_url: BaseUrl = None,
    model: Model = None,
) -> None:
    """Repeat the real run of `check --wall`, keep its figures in the baseline, and say what it can detect.

    The package's own baseline is not changed: the figures go to pagedbench-baseline.json here. It has
    those of our engine, or of one server; name another file with --baseline for another one.
    """
    from pagedbench.clock import utc_text
    from pagedbench.runs.files import check_files
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.tools.check.baseline_file import NAME, find_baseline, read_baseline, write_baseline
    from pagedbench.tools.check.baseline_report import print_noise
    from pagedbench.tools.check.wall import noise_of
    from pagedbench.tools.check.wall_run import Starved, machine

    path = None if baseline is None else baseline.expanduser()
    saved, place = read_baseline(find_baseline(path)), path or Path(NAME)
    check_files([place], force=True)
    server, stop = asked_server(base_url, model), Event()
    try:
        with Interrupts(stop.set):
            runs = measured(server, repeats, stop)
    except Starved as reason:
        print(f"Error: nothing is saved: {reason}", file=sys.stderr)
        raise typer.Exit(INVALID) from None
    if runs is None:
        raise typer.Exit(INTERRUPTED)
    wall = {"saved": utc_text(), "machine": machine(), "runs": runs}
    if server is not None:
        wall["server"] = server.facts
    write_baseline(replace(saved, wall=wall), place)
    print_noise(stdout_console(COMPARE_WIDTH), noise_of(runs), repeats)
    print(f"Saved to {place}", file=sys.stderr)
