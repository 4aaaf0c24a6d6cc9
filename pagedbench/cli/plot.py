"""`pagedbench plot`: figures from saved runs, as files or in the terminal, without running again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from pagedbench.runs.saved import SavedRun

FILES = ("png", "svg")
TERMINAL = "terminal"
PAPER_Y_MAX = 1.0
"""Seconds a token at which the paper cuts its latency axes."""


def plot(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, sweeps, or folders of runs.", show_default=False)
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            help="latency, memory, batch, savings, cdf, timeline; comma list \\[what the runs show].",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="The folder for the files.")] = Path("plots"),
    format: Annotated[
        str, typer.Option(help="png, svg (comma list), or terminal: latency curves, drawn with characters.")
    ] = "png,svg",
    y_max: Annotated[
        float, typer.Option(help="Top of the latency axis, in s/token, where a curve reaches it.")
    ] = PAPER_Y_MAX,
    force: Annotated[bool, typer.Option("--force", help="Replace files of the same names.")] = False,
) -> None:
    """Draw saved runs: a fixed colour and marker for every system, in the paper's axes."""
    from pagedbench.runs.saved import load_runs
    from pagedbench.show.plot_kinds import check_kind, fitting_kinds

    formats = tuple(dict.fromkeys(word.strip() for word in format.split(",")))
    if formats != (TERMINAL,) and not set(formats) <= set(FILES):
        raise ConfigError(f"--format is png, svg, png,svg or terminal, not {format!r}")
    if not y_max > 0:
        raise ConfigError(f"--y-max must be above 0, not {y_max:g}")
    saved = only_complete(load_runs(path.expanduser() for path in runs))
    if formats == (TERMINAL,):
        kinds = ["latency"] if kind is None else [word.strip() for word in kind.split(",")]
        if kinds != ["latency"]:
            raise ConfigError("--format terminal draws latency alone: choose png or svg for other kinds")
    else:
        kinds = fitting_kinds(saved) if kind is None else [word.strip() for word in kind.split(",")]
    for name in kinds:
        check_kind(name, saved)
    if not kinds:
        raise ConfigError(f"{len(saved)} runs are too many for any plot but latency, which needs rates")
    if formats == (TERMINAL,):
        _print_latency(saved, y_max)
    else:
        _write(saved, kinds, formats, output.expanduser(), y_max, force=force)


def only_complete(saved: list[SavedRun]) -> list[SavedRun]:
    """Runs that reached their end; of others is said that they are left out.

    Raises:
        ConfigError: no run did.
    """
    complete = [run for run in saved if run.is_complete]
    for run in saved:
        if not run.is_complete:
            print(f"Left out: {run.folder}, {run.status}", file=sys.stderr)
    if not complete:
        raise ConfigError("no run is complete: there is nothing to show")
    return complete


def _print_latency(saved: list[SavedRun], y_max: float) -> None:
    from pagedbench.show.console import is_ascii, stdout_console
    from pagedbench.show.curves import latency_panels
    from pagedbench.show.terminal_plot import terminal_plot

    console = stdout_console()
    for panel in latency_panels(saved):
        console.print(
            terminal_plot(
                panel,
                x_label="request rate (req/s)",
                y_label="normalized latency (s/token)",
                y_max=y_max,
                width=min(console.width, 100),
                ascii_only=is_ascii(console),
            ),
            soft_wrap=True,
        )


def _write(
    saved: list[SavedRun],
    kinds: list[str],
    formats: tuple[str, ...],
    folder: Path,
    y_max: float,
    *,
    force: bool,
) -> None:
    from pagedbench.runs.files import check_files, write_file
    from pagedbench.show.plot_kinds import check_matplotlib
    from pagedbench.show.plots import draw, image

    check_matplotlib("--format terminal")
    check_files((folder / f"{kind}.{end}" for kind in kinds for end in formats), force=force)
    for kind in kinds:
        figure = draw(kind, saved, y_max=y_max)
        for end in formats:
            write_file(folder / f"{kind}.{end}", image(figure, end))
            print(f"Saved to {folder / f'{kind}.{end}'}")
