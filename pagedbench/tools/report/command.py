"""`pagedbench report`: one file from saved runs: HTML, Markdown, or what vLLM's own tools read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pagedbench.runs.saved import SavedRun

ENDINGS = {".html": "html", ".md": "md"}
FORMATS = {"html": "report.html", "md": "report.md", "vllm": "vllm.json"}
"""Format -> the default name of the file."""


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, sweeps, or folders of runs.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file; without --format its ending, .html or .md, decides the format "
            "\\[report.html, report.md, vllm.json].",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="html, md, or vllm: the JSON of `vllm bench serve --save-result`, one line per run.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
) -> None:
    """Write a report on saved runs: findings, caveats, charts, results, latency by stage, provenance.

    The HTML file is self-contained. Its charts need matplotlib; Markdown draws them with characters.
    The file for vLLM's tools leaves out what was not measured, and marks simulated runs by `is_simulated`.
    """
    from pagedbench.runs.document_format import format_of
    from pagedbench.runs.files import check_files, write_file
    from pagedbench.runs.saved import load_runs

    kind = format_of(format, output, FORMATS, ENDINGS)
    target = Path(FORMATS[kind]) if output is None else output.expanduser()
    saved = load_runs(path.expanduser() for path in runs)
    check_files([target], force=force)
    write_file(target, _text(kind, saved).encode())
    print(f"Saved to {target}")


def _text(kind: str, saved: list[SavedRun]) -> str:
    from pagedbench.tools.report.content import report_of
    from pagedbench.tools.report.html import html_report
    from pagedbench.tools.report.markdown import markdown_report
    from pagedbench.tools.report.vllm_result import vllm_lines

    if kind == "vllm":
        return vllm_lines(saved)
    complete = [run for run in saved if run.is_complete]
    report = report_of(saved)
    if kind == "html":
        return html_report(report, _charts(complete))
    return markdown_report(report, _text_plots(complete))


def _charts(complete: list[SavedRun]) -> dict[str, bytes]:
    """Caption -> SVG."""
    from pagedbench.show.drawing import check_can_draw, image
    from pagedbench.tools.report.run_charts import KINDS, chart_of, fitting_kinds

    if not complete:
        return {}
    check_can_draw("--format md")
    kinds = fitting_kinds(complete)
    return {f"{kind}: {KINDS[kind]}": image(chart_of(kind, complete), "svg") for kind in kinds}


def _text_plots(complete: list[SavedRun]) -> list[str]:
    from pagedbench.tools.report.run_charts import chart_of, fitting_kinds
    from pagedbench.tools.report.terminal_plot import terminal_plot

    if "latency" not in fitting_kinds(complete):
        return []
    panels = chart_of("latency", complete).panels
    return [terminal_plot(panel, width=90, ascii_only=False).plain for panel in panels]
