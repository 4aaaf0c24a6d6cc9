"""A sweep's folder: which of its cells are done, and one table of all of them, failed ones included."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pagedbench.config import ConfigError, flag
from pagedbench.metrics.formulas import METRICS
from pagedbench.runs.files import csv_text
from pagedbench.runs.parallel import Failure
from pagedbench.runs.result import IDENTITY_COLUMNS
from pagedbench.runs.saved import load_run
from pagedbench.runs.single_files import write_file
from pagedbench.runs.toml import config_toml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pagedbench.runs.cell import Cell
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
"""Of sweep.csv: those of summary.csv, after the cell, what became of it, and whether it was starved."""

NOT_RUN = "not run"
FAILED = "failed"

Row = dict[str, Any]


@dataclass(slots=True)
class Sweep:
    """The cells of a folder, and what became of them so far.

    Attributes:
        runs: by cell name, whole runs on the disk, whatever their status.
        failures: by cell name, why there is none.
    """

    folder: Path
    cells: Sequence[Cell]
    runs: dict[str, SavedRun] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def find_done(self) -> None:
        """Look for cells that an earlier sweep completed; others are to be made again.

        Raises:
            ConfigError: a cell was made with other options, other requests or other step times.
        """
        for cell in self.cells:
            try:
                run = load_run(cell.folder)
            except ConfigError:  # absent, damaged or incomplete
                continue
            _refuse_other(cell, run)
            if run.is_complete:
                self.runs[cell.name] = run

    @property
    def pending(self) -> list[Cell]:
        """Cells that have not been completed."""
        return [cell for cell in self.cells if cell.name not in self.runs]

    def take(self, cell: Cell, outcome: str | Failure) -> Row:
        """A cell has ended: its row."""
        if isinstance(outcome, Failure):
            self.failures[cell.name] = outcome.reason
        else:
            self.runs[cell.name] = load_run(cell.folder)
        return self.row(cell)

    def rows(self) -> list[Row]:
        """One row a cell, in the order in which they were asked for."""
        return [self.row(cell) for cell in self.cells]

    def row(self, cell: Cell) -> Row:
        """The columns of `COLUMNS`; what is not known is None."""
        run = self.runs.get(cell.name)
        row: Row = dict.fromkeys(COLUMNS)
        row["cell"] = cell.name
        if run is None:
            reason = self.failures.get(cell.name)
            row |= _known_identity(cell) | {"status": FAILED if reason else NOT_RUN, "reason": reason}
            return row
        reasons = "; ".join(run.manifest["invalid_because"])
        identity = {name: run.summary["run"].get(name) for name in IDENTITY_COLUMNS}
        values = {metric.name: run.values[metric.name] for metric in METRICS}
        verdict = {"status": run.status, "reason": reasons or None, "machine_busy": run.is_busy}
        return {**row, **identity, **values, **verdict}

    def write_table(self) -> None:
        """Write sweep.csv anew, whole or not at all.

        Raises:
            ReportError: it cannot be written.
        """
        write_file(self.folder / TABLE, csv_text(COLUMNS, self.rows()).encode())


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Within the block no other sweep works in the folder, which is made if it is not there.

    Raises:
        ConfigError: one does, or it is no folder that can be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be used: {error.strerror}: choose another --output") from None
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    """Until it is closed; the system closes it if the process dies."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"another sweep is at work in {folder}: wait until it has ended, or choose another --output"
        ) from None


def _known_identity(cell: Cell) -> Row:
    """What identifies a run that was never made."""
    config, sampling = cell.plan.config, cell.trace.sampling
    known: Row = {
        name: getattr(config, name) for name in IDENTITY_COLUMNS if name in type(config).__slots__
    }
    return known | {
        "system": cell.plan.system.name,
        "kernels": cell.plan.kernels,
        "trace": cell.trace.name,
        "trace_sha256": cell.trace.sha256,
        "rate": None if config.arrival == "trace" else config.rate,
        "n": None if sampling is None else sampling.n,
        "beam_width": None if sampling is None else sampling.beam_width,
        "kv_slots": cell.plan.kv_slots,
        "cost_model": cell.plan.cost_model,
    }


def _refuse_other(cell: Cell, run: SavedRun) -> None:
    """A cell of the same name that is not the same run must neither be kept nor be lost."""
    wanted = tomllib.loads(config_toml(cell.plan.config))
    names = [
        name
        for name in (*wanted, *run.config)
        if name != "label" and wanted.get(name) != run.config.get(name)
    ]
    advice = "choose another --output, or replace it with --force"
    if names:
        name = names[0]
        was, now = run.config.get(name, "none"), wanted.get(name, "none")
        raise ConfigError(f"{cell.folder} was made with {flag(name)} {was}, not {now}: {advice}")
    facts, plan = run.manifest["trace"], run.manifest["plan"]
    if (facts["sha256"], facts["arrivals_sha256"]) != (cell.trace.sha256, cell.trace.arrivals_sha256):
        raise ConfigError(f"{cell.folder} was made with other requests of {cell.trace.name}: {advice}")
    if plan["cost_model"] != cell.plan.cost_model:
        raise ConfigError(f"{cell.folder} was made with other step times: {advice}")
