"""Our own trace format: a CSV of `prompt_len,output_len` and, where known, `arrival_s`."""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.workload.rows import MAX_LENGTH, Row, TraceError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

REQUIRED_COLUMNS = ("prompt_len", "output_len")
COLUMNS = (*REQUIRED_COLUMNS, "arrival_s", "session", "n", "beam_width")
MAX_ARRIVAL_TIME = 1e9
"""Seconds, 30 years: what is later is a time of day, and no time since the start."""

_SINGLE_SEQUENCE = frozenset({"", "1"})


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table: where it stands in the file, from 1, and its cells."""

    number: int
    cells: list[str]


def parse_lengths(text: str, source: str) -> tuple[Row, ...]:
    """The rows of our own CSV.

    Args:
        source: the file's name, for error messages.

    Raises:
        TraceError: a column or a cell is missing, unknown, or impossible.
    """
    lines = _lines(text, source)
    header = next(lines, None)
    if header is None:
        raise TraceError(f"{source} is empty")
    return rows_from_table([cell.strip() for cell in header.cells], lines, source)


def rows_from_table(header: list[str], lines: Iterable[Line], source: str) -> tuple[Row, ...]:
    """The rows of a table with our own columns, from wherever its cells were read."""
    _check_header(header, source)
    position = {name: index for index, name in enumerate(header)}
    arrival_at = position.get("arrival_s")
    prompt_at, output_at = position["prompt_len"], position["output_len"]
    single_at = [position[name] for name in ("n", "beam_width") if name in position]
    rows: list[Row] = []
    previous = 0.0
    for line in lines:
        cells = line.cells
        if len(cells) != len(header):
            raise TraceError(
                f"{source} line {line.number} has {len(cells)} cells, but the header names {len(header)}"
            )
        for index in single_at:
            if cells[index].strip() not in _SINGLE_SEQUENCE:
                raise TraceError(
                    f"{source} line {line.number}: {header[index]} is {shown(cells[index])}, but several "
                    "sequences a request are not supported yet: leave the cell empty or 1"
                )
        prompt_len = _length(cells[prompt_at], "prompt_len", line.number, source)
        output_len = _length(cells[output_at], "output_len", line.number, source)
        arrival_time = None
        if arrival_at is not None:
            arrival_time = previous = _arrival(cells[arrival_at], previous, line.number, source)
        rows.append(Row(prompt_len, output_len, None, arrival_time))
    if not rows:
        raise TraceError(f"{source} has a header, but no rows")
    return tuple(rows)


def _lines(text: str, source: str) -> Iterator[Line]:
    """The lines that are not blank."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield Line(reader.line_num, cells)
    except csv.Error as error:
        raise TraceError(f"{source} line {reader.line_num} cannot be read as CSV: {error}") from error


def _check_header(header: list[str], source: str) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if missing:
        found = ", ".join(shown(name) for name in header[:6])
        raise TraceError(
            f"{source} has no column {' and no column '.join(missing)}: a CSV trace needs "
            f"{','.join(REQUIRED_COLUMNS)}, and this one begins with {found}"
        )
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        raise TraceError(
            f"{source} has the unknown column {', '.join(shown(name) for name in unknown[:6])}: "
            f"the columns are {', '.join(COLUMNS)}"
        )
    repeated = [name for name in COLUMNS if header.count(name) > 1]
    if repeated:
        raise TraceError(f"{source} has the column {repeated[0]} more than once: keep one of them")
    if "session" in header:
        raise TraceError(f"{source} has a column session, which is not supported yet: remove it")


def _length(cell: str, column: str, number: int, source: str) -> int:
    cell = cell.strip()
    digits = cell.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise TraceError(f"{source} line {number}: {column} is {shown(cell)}, which is not a whole number")
    # A longer number is too large whatever its digits, and int() refuses some thousand of them.
    length = int(digits) if len(digits) <= 18 else MAX_LENGTH + 1
    if digits != cell:
        raise TraceError(f"{source} line {number}: {column} is {shown(cell)}, but a length is 0 or more")
    if length > MAX_LENGTH:
        raise TraceError(
            f"{source} line {number}: {column} is {shown(cell)}, more than {MAX_LENGTH} tokens"
        )
    return length


def _arrival(cell: str, previous: float, number: int, source: str) -> float:
    try:
        arrival_time = float(cell)
    except ValueError:
        raise TraceError(
            f"{source} line {number}: arrival_s is {shown(cell)}, which is not a number"
        ) from None
    if not math.isfinite(arrival_time) or arrival_time < 0:
        raise TraceError(
            f"{source} line {number}: arrival_s is {shown(cell)}, but must be finite and 0 or more seconds"
        )
    if arrival_time > MAX_ARRIVAL_TIME:
        raise TraceError(
            f"{source} line {number}: arrival_s is {shown(cell)}, more than {MAX_ARRIVAL_TIME:g} seconds "
            "after the start: subtract the time of the first row"
        )
    if arrival_time < previous:
        raise TraceError(
            f"{source} line {number}: arrival_s is {shown(cell)}, earlier than the row before it: "
            "sort the file by arrival_s"
        )
    return arrival_time


def write_lengths(rows: Sequence[Row], path: str | Path) -> None:
    """Write rows as our own CSV, gzipped if the name ends in `.gz`; token ids are not written.

    The column `arrival_s` is written if every row has a time. The file appears whole or not at all.

    Raises:
        TraceError: there are no rows, or the file cannot be written.
    """
    if not rows:
        raise TraceError(f"there are no rows to write to {path}")
    timed = all(row.arrival_time is not None for row in rows)
    lines = [",".join((*REQUIRED_COLUMNS, "arrival_s") if timed else REQUIRED_COLUMNS)]
    for row in rows:
        # repr is the shortest text that reads back as the same float
        tail = f",{float(row.arrival_time)!r}" if timed and row.arrival_time is not None else ""
        lines.append(f"{row.prompt_len},{row.output_len}{tail}")
    data = ("\n".join(lines) + "\n").encode()
    if str(path).endswith(".gz"):
        data = gzip.compress(data, mtime=0)  # no time of day: equal rows give equal files
    write_whole(path, data)


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file so that it is never seen half-written, not even after a crash.

    Raises:
        TraceError: the file cannot be written.
    """
    target = Path(path)
    scratch = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        scratch.write_bytes(data)
        scratch.replace(target)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise TraceError(f"cannot write {target}: {error.strerror or error}") from error
