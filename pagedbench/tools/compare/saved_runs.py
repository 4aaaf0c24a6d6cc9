"""`compare` on saved runs: the first path is the reference, every other path is a candidate."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import typer

from pagedbench.config import ConfigError, flag
from pagedbench.runs.files import check_folder
from pagedbench.runs.saved import load_runs
from pagedbench.tools.compare.comparison import Side
from pagedbench.tools.compare.reports import deliver, exit_code

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.runs.options import CommandOptions
    from pagedbench.tools.compare.question import Question

OPTIONS = ("flags", "output", "force", "strict", "format")
"""Fields of `CommandOptions` that have an effect when nothing is run; `flags` must be empty."""


def compare_saved(options: CommandOptions, paths: Items[Path], question: Question) -> None:
    """Compare the runs of the paths, and write the reports.

    Raises:
        ConfigError: an option has no effect here, or a path holds no complete run.
        ReportError: the reports cannot be written.
        typer.Exit: with 0, 3, 5 or 6, after all reports.
    """
    _refuse_run_options(options)
    if len(paths) < 2:
        raise ConfigError("compare needs a second saved run: name a run to compare the first one with")
    if options.output is not None:
        check_folder(options.output, force=options.force)
    sides = _sides(paths)
    comparison = question.compare(sides)
    deliver(comparison, sides, options)
    raise typer.Exit(exit_code(comparison, options, sides))


def _refuse_run_options(options: CommandOptions) -> None:
    others = [item for item in fields(options) if item.name not in OPTIONS]
    changed = [item.name for item in others if getattr(options, item.name) != item.default]
    for name in (*options.flags, *changed):
        raise ConfigError(f"{flag(name)} has no effect on saved runs: nothing is run")


def _sides(paths: Items[Path]) -> list[Side]:
    """One side per path, with the path's last part as its name, or the whole path if these are equal."""
    names = [path.name or str(path) for path in paths]
    labels = [
        name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)
    ]
    return [Side(label, tuple(load_runs([path]))) for label, path in zip(labels, paths, strict=True)]
