"""Where the latency of a saved run comes from, read from its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.metrics.attribution import REQUEST_COLUMNS, STEP_COLUMNS, attribute
from pagedbench.scheduling.batch import BlockedBy

if TYPE_CHECKING:
    from pagedbench.metrics.attribution import Attribution
    from pagedbench.runs.saved import SavedRun


def attribution_of(run: SavedRun) -> Attribution:
    """The parts of the mean latency of a complete run.

    Raises:
        ConfigError: a table is damaged or lacks a column, or no request completed.
    """
    if run.is_of_server:
        raise ConfigError(
            f"{run.folder} is a run against a server, whose iterations are unknown: its latency cannot be "
            "divided into stages"
        )
    tables = []
    for table, names in ((run.requests, REQUEST_COLUMNS), (run.steps, STEP_COLUMNS)):
        missing = [name for name in names if name not in table]
        if missing:
            raise ConfigError(f"{run.folder} has no column {missing[0]}: repeat the run")
        if "blocked_by" in names:
            numbers = {kind.name.lower(): int(kind) for kind in BlockedBy}
            table = table.assign(blocked_by=table["blocked_by"].map(numbers))
        tables.append({name: table[name].to_numpy(float) for name in names})
    try:
        return attribute(tables[0], tables[1])
    except ValueError as error:
        raise ConfigError(f"{run.folder}: {error}") from None
