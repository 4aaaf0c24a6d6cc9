"""The files of a figure: its tables as CSV, its picture as PNG and SVG where matplotlib is installed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from pagedbench.runs.files import csv_text

if TYPE_CHECKING:
    from pagedbench.tools.paper.figure import Outcome


def can_draw() -> bool:
    """Is matplotlib installed?"""
    return importlib.util.find_spec("matplotlib") is not None


def figure_files(name: str, outcome: Outcome) -> dict[str, bytes]:
    """Name -> content."""
    files = {f"{name}{end}.csv": csv_text(rows[0], rows).encode() for end, rows in outcome.tables.items()}
    if can_draw():
        from pagedbench.show.charts import draw_chart
        from pagedbench.show.plots import image

        figure = draw_chart(outcome.chart)
        files |= {f"{name}.{kind}": image(figure, kind) for kind in ("png", "svg")}
    return files
