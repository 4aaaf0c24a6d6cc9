"""`pagedbench view`: the memory of one saved run as one HTML file, or as a trace for Perfetto."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from pagedbench.runs.saved import SavedRun

FORMATS = {"html": "view.html", "perfetto": "perfetto.json"}
"""Format -> the default name of the file, in the folder of the run."""

ENDINGS = {".html": "html", ".json": "perfetto"}


Run = Annotated[Path, typer.Argument(help="A run saved with --save-events.", show_default=False)]
Output = Annotated[
    Path | None,
    typer.Option(
        help="The file; without --format its ending, .html or .json, decides the format "
        "\\[view.html or perfetto.json in the folder of the run].",
        show_default=False,
    ),
]


def view(
    run: Run,
    output: Output = None,
    format: Annotated[
        str | None,
        typer.Option(help="html, or perfetto: JSON for ui.perfetto.dev.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
) -> None:
    """Show the memory of a run: blocks over time, who owned them, who was preempted, what was evicted.

    The HTML file is self-contained. Colour it by owner, cache state, tier or part; zoom with the wheel,
    search for a request, and click a preemption or an eviction to see which requests it affected.
    """
    from pagedbench.runs.document_format import format_of
    from pagedbench.runs.files import check_files, write_file

    kind = format_of(format, output, FORMATS, ENDINGS)
    saved = _one_run(run.expanduser())
    target = saved.folder / FORMATS[kind] if output is None else output.expanduser()
    check_files([target], force=force)
    write_file(target, _text(kind, saved).encode())
    print(f"Saved to {target}")


def _one_run(path: Path) -> SavedRun:
    from pagedbench.runs.saved import load_only_run

    run = load_only_run(path)
    if not run.values["num_steps"]:
        raise ConfigError(f"the run in {path} has no iterations: there is nothing to show")
    return run


def _text(kind: str, run: SavedRun) -> str:
    if kind == "perfetto":
        from pagedbench.tools.view.perfetto import perfetto_trace

        return perfetto_trace(run)
    from pagedbench.tools.view.page import html_page

    return html_page(run)
