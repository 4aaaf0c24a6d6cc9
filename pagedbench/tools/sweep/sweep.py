"""Sweep: the cells of a folder, which of them are complete, and one table of all, including failed ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pagedbench.metrics.formulas import METRICS
from pagedbench.runs.completed import completed
from pagedbench.runs.files import csv_text, write_file
from pagedbench.runs.parallel import Failure
from pagedbench.runs.result import IDENTITY_COLUMNS, identity_of
from pagedbench.runs.saved import load_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pagedbench.runs.cell import Cell
    from pagedbench.runs.result import RunStatus
    from pagedbench.runs.saved import SavedRun

TABLE = "sweep.csv"
COLUMNS = (
    "cell",
    "status",
    "reason",
    "machine_busy",
    *IDENTITY_COLUMNS,
    *(metric.name for metric in METRICS),
)
"""Columns of sweep.csv: four about the cell, then those of summary.csv."""

Row = dict[str, Any]


class NoRun(StrEnum):
    """The status of a cell without a run; other cells have a `RunStatus`."""

    NOT_RUN = "not run"
    FAILED = "failed"


@dataclass(slots=True)
class Sweep:
    """The cells of a folder, with their outcomes so far.

    Attributes:
        runs: cell name -> saved run, whatever its status.
        failures: cell name -> the reason why there is no run.
    """

    folder: Path
    cells: Sequence[Cell]
    runs: dict[str, SavedRun] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def find_done(self) -> None:
        """Look for cells that an earlier sweep completed; the others are run again.

        Raises:
            ConfigError: a cell was run with other options, other requests or other step times.
        """
        for cell in self.cells:
            run = completed(cell)
            if run is not None:
                self.runs[cell.name] = run

    @property
    def pending(self) -> list[Cell]:
        """Cells that have not been completed."""
        return [cell for cell in self.cells if cell.name not in self.runs]

    def take(self, cell: Cell, outcome: RunStatus | Failure) -> Row:
        """Note that a cell has ended. Returns its row."""
        if isinstance(outcome, Failure):
            self.failures[cell.name] = outcome.reason
        else:
            self.runs[cell.name] = load_run(cell.folder)
        return self.row(cell)

    def rows(self) -> list[Row]:
        """One row per cell, in the order asked for."""
        return [self.row(cell) for cell in self.cells]

    def row(self, cell: Cell) -> Row:
        """The values of `COLUMNS`; None: unknown."""
        run = self.runs.get(cell.name)
        row: Row = dict.fromkeys(COLUMNS)
        row["cell"] = cell.name
        if run is None:
            reason = self.failures.get(cell.name)
            row |= identity_of(cell.plan, cell.trace)
            return row | {"status": NoRun.FAILED if reason else NoRun.NOT_RUN, "reason": reason}
        reasons = "; ".join(run.manifest["invalid_because"])
        identity = {name: run.summary["run"].get(name) for name in IDENTITY_COLUMNS}
        values = {metric.name: run.values[metric.name] for metric in METRICS}
        verdict = {"status": run.status, "reason": reasons or None, "machine_busy": run.is_busy}
        return {**row, **identity, **values, **verdict}

    def write_table(self) -> None:
        """Write sweep.csv again, whole or not at all.

        Raises:
            ReportError: it cannot be written.
        """
        write_file(self.folder / TABLE, csv_text(COLUMNS, self.rows()).encode())
