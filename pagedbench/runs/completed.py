"""Which cells an earlier command has completed; a run made with other options is refused, not replaced."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError, flag
from pagedbench.runs.saved import load_run
from pagedbench.runs.toml import config_toml

if TYPE_CHECKING:
    from pagedbench.runs.cell import Cell
    from pagedbench.runs.saved import SavedRun


def completed(cell: Cell) -> SavedRun | None:
    """The run in the cell's folder; None if it has to be made: absent, damaged or incomplete.

    Raises:
        ConfigError: it was made with other options, other requests or other step times.
    """
    try:
        run = load_run(cell.folder)
    except ConfigError:
        return None
    _refuse_other(cell, run)
    return run if run.is_complete else None


def _refuse_other(cell: Cell, run: SavedRun) -> None:
    """Refuse to keep or to overwrite a run of the same name with other options, requests or step times."""
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
