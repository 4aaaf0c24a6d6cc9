"""events.parquet: every change of memory in a run, written and read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pagedbench.config import ConfigError
from pagedbench.metrics.event_log import NONE, TIERS, Event, EventTable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pagedbench.runs.result import Result

FILE = "events.parquet"
KEY = b"pagedbench"
"""The key of the file's metadata that describes the pool: JSON of `Layout`."""

VERSION = 1
WORDS = {"event": [kind.name.lower() for kind in Event], "tier": [pool.value for pool in TIERS]}
COLUMNS = ("step", "t_s", "event", "block", "request_id", "sequence", "tokens", "tier")


@dataclass(frozen=True, slots=True)
class Layout:
    """What `block` counts.

    Attributes:
        block_size: tokens per block; 1 if the pool is divided into extents, whose first slots are logged.
        num_blocks: blocks of the device.
        is_extents: the pool is divided into extents; the `tokens` of ALLOCATE are their lengths.
    """

    block_size: int
    num_blocks: int
    is_extents: bool
    version: int = VERSION


def write_events(result: Result, folder: Path) -> None:
    """Write the file of a run whose events were logged. Equal runs in virtual time leave equal bytes.

    Raises:
        OSError: the disk is full, for example.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert result.events is not None, "the run was not observed"
    table, size = result.events.table(result.record.steps), result.events.block_size
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        values: NDArray[Any] = getattr(table, name)
        is_null = np.isnan(values) if name == "t_s" else values == NONE
        columns[name] = pa.array(values, mask=is_null)
        if name in WORDS:
            columns[name] = pa.DictionaryArray.from_arrays(columns[name], WORDS[name])
    layout = Layout(size or 1, result.record.capacity // (size or 1), size is None)
    metadata = {KEY: json.dumps({name: getattr(layout, name) for name in Layout.__slots__})}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), folder / FILE, compression="zstd")


def read_events(folder: Path) -> tuple[EventTable, Layout]:
    """The events of a saved run, and what its blocks are.

    Raises:
        ConfigError: the run has none, or the file is damaged or was not written by this program.
    """
    path = folder / FILE
    if not path.is_file():
        raise ConfigError(f"{folder} has no {FILE}: run it again with --save-events")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read ({_first_line(error)}): repeat the run") from None
    try:
        layout = Layout(**json.loads(table.schema.metadata[KEY]))
        columns = {name: _column(table, name) for name in COLUMNS}
    except (KeyError, TypeError, ValueError, AttributeError, pa.ArrowException):
        raise ConfigError(f"{path} is not a file of events: repeat the run with --save-events") from None
    if layout.version != VERSION:
        raise ConfigError(f"{path} has version {layout.version}, not {VERSION}: repeat the run")
    return EventTable(**columns), layout


def _column(table: Any, name: str) -> NDArray[Any]:
    import pyarrow as pa

    column = table.column(name).combine_chunks()
    if name == "t_s":
        return np.asarray(column.cast(pa.float64()).fill_null(np.nan))
    if name in WORDS:
        known = pa.array(WORDS[name])
        column = pa.compute.index_in(column.cast(pa.string()), value_set=known)
    return np.asarray(column.cast(pa.int32()).fill_null(NONE))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
