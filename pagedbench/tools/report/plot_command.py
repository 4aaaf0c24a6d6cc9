"""`pagedbench plot`: charts of saved runs, as files or in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pagedbench.runs.saved import SavedRun
    from pagedbench.show.charts import Chart

FILES = ("png", "svg")
TERMINAL = "terminal"


def plot(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, sweeps, or folders of runs.", show_default=False)
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            help="latency, memory, batch, savings, cdf, timeline; comma-separated \\[all that the runs "
            "show; in the terminal: latency].",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("plots"),
    format: Annotated[
        str, typer.Option(help="png, svg (comma-separated), or terminal: drawn with characters.")
    ] = "png,svg",
    y_max: Annotated[
        float, typer.Option(help="Top of the latency axis in s/token, where a curve reaches it.")
    ] = 1.0,
    force: Annotated[bool, typer.Option("--force", help="Replace files of the same names.")] = False,
) -> None:
    """Plot saved runs. Every system has its own colour and marker; the axes are the paper's.

    Latency is plotted over what was swept: the request rate, or else the block size, the KV pool and so on.
    """
    from pagedbench.runs.saved import load_runs
    from pagedbench.tools.report.run_charts import chart_of, fitting_kinds

    formats = tuple(dict.fromkeys(word.strip() for word in format.split(",")))
    if formats != (TERMINAL,) and not set(formats) <= set(FILES):
        raise ConfigError(f"--format is png, svg, png,svg or terminal, not {format!r}")
    if not y_max > 0:
        raise ConfigError(f"--y-max must be above 0, not {y_max:g}")
    saved = only_complete(load_runs(path.expanduser() for path in runs))
    if kind is not None:
        kinds = [word.strip() for word in kind.split(",")]
    else:
        kinds = ["latency"] if formats == (TERMINAL,) else fitting_kinds(saved)
    if not kinds:
        raise ConfigError(f"{len(saved)} runs are too many for any plot but latency, which needs a sweep")
    charts = {name: chart_of(name, saved, y_max=y_max) for name in kinds}
    if formats == (TERMINAL,):
        _print(charts.values())
    else:
        _write(charts, formats, output.expanduser(), force=force)


def only_complete(saved: list[SavedRun]) -> list[SavedRun]:
    """The runs that reached their end; the others are named on stderr.

    Raises:
        ConfigError: no run is complete.
    """
    complete = [run for run in saved if run.is_complete]
    for run in saved:
        if not run.is_complete:
            print(f"Left out: {run.folder}, {run.status}", file=sys.stderr)
    if not complete:
        raise ConfigError("no run is complete: there is nothing to show")
    return complete


def _print(charts: Iterable[Chart]) -> None:
    from pagedbench.show.console import is_ascii, stdout_console
    from pagedbench.tools.report.terminal_plot import terminal_plot

    console = stdout_console()
    width = min(console.width, 100)
    for panel in (panel for chart in charts for panel in chart.panels):
        console.print(terminal_plot(panel, width=width, ascii_only=is_ascii(console)), soft_wrap=True)


def _write(charts: Mapping[str, Chart], formats: tuple[str, ...], folder: Path, *, force: bool) -> None:
    from pagedbench.runs.files import check_files, write_file
    from pagedbench.show.drawing import check_can_draw, image

    check_can_draw("--format terminal")
    check_files((folder / f"{kind}.{end}" for kind in charts for end in formats), force=force)
    for kind, chart in charts.items():
        for end in formats:
            write_file(folder / f"{kind}.{end}", image(chart, end))
            print(f"Saved to {folder / f'{kind}.{end}'}")
