"""Results as one document: a JSON object, a CSV row or a row of a Markdown table per run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.runs.files import csv_text, json_text
from pagedbench.runs.result import summary_row
from pagedbench.show.comparison import comparison_table
from pagedbench.show.table import markdown_table

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.runs.result import Result


def document(results: Items[Result], folders: Items[Path], kind: str) -> str:
    """`kind`: "json" (an object for one run, a list for several), "csv" (as summary.csv) or "md"."""
    if kind == "md":
        return markdown_table(comparison_table(results))
    rows = [summary_row(result) for result in results]
    if kind == "csv":
        return csv_text(rows[0], rows)
    objects = [
        {**row, "status": result.status, "folder": str(folder)}
        for row, result, folder in zip(rows, results, folders, strict=True)
    ]
    return json_text(objects[0] if len(objects) == 1 else objects)
