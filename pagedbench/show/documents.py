"""Results as one document for a program: JSON objects, CSV rows or a Markdown table, one a run."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import number
from pagedbench.runs.result import summary_row
from pagedbench.show.comparison import (
    HEADINGS,
    columns_of,
    is_best,
    option,
    preemptions,
    same_workload,
    state,
    varying_options,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.runs.result import Result


def document(results: Items[Result], folders: Items[Path], kind: str) -> str:
    """`kind`: "json" (an object for one run, a list for several), "csv" (as summary.csv) or "md"."""
    if kind == "json":
        objects = [_json_object(result, folder) for result, folder in zip(results, folders, strict=True)]
        return json.dumps(objects[0] if len(objects) == 1 else objects, indent=2, allow_nan=False) + "\n"
    return _csv(results) if kind == "csv" else _markdown(results)


def _json_object(result: Result, folder: Path) -> dict[str, object]:
    row = {name: _json_value(value) for name, value in summary_row(result).items()}
    return {**row, "status": result.status, "folder": str(folder)}


def _json_value(value: object) -> object:
    """JSON has no infinity: the rate of "all at once" is the text "inf"."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _csv(results: Items[Result]) -> str:
    rows: list[Mapping[str, object]] = [summary_row(result) for result in results]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _markdown(results: Items[Result]) -> str:
    """The columns of the comparison, under their names in summary.csv; the best of a workload in bold."""
    varying = varying_options(results)
    columns = columns_of(results)
    headings = [column.metric for column in columns]
    lines = [["system", *(HEADINGS[name] for name in varying), *headings, "preempted", "state"]]
    lines.append(["---"] + ["---:"] * (len(varying) + len(columns) + 1) + ["---"])
    for result in results:
        rivals = same_workload(result, results)
        cells = []
        for column in columns:
            figure = number(result.values[column.metric])
            cells.append(f"**{figure}**" if is_best(result, column.metric, rivals) else figure)
        identity = [option(result, name) for name in varying]
        lines.append([result.plan.system.name, *identity, *cells, preemptions(result), state(result)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
