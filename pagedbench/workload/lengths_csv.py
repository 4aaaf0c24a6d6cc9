"""Our own trace format: a CSV of `prompt_len,output_len` and optional columns."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.workload.rows import (
    MAX_ARRIVAL_TIME,
    MAX_LENGTH,
    MAX_RECORDS,
    Row,
    TraceError,
    collected,
    shown,
)
from pagedbench.workload.text_stream import MAX_LINE_LEN
from pagedbench.workload.whole_file import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

REQUIRED_COLUMNS = ("prompt_len", "output_len")
COLUMNS = (*REQUIRED_COLUMNS, "arrival_s", "session", "n", "beam_width")
OTHER_NAMES = (("num_prefill_tokens", "num_decode_tokens"), ("prompt_tokens", "output_tokens"))
"""Names of the two lengths in traces of Vidur, Sarathi-Serve and Etalon, and in counts of tokens.
If a file has such a pair, its other columns are ignored."""

MAX_WIDTH = 4096
"""More sequences per request are a mistake in the file."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table: its number in the file, from 1, and its cells."""

    number: int
    cells: list[str]


def header_of(lines: Iterator[Line], source: str) -> list[str]:
    """The names of the columns, which the first line of a table holds.

    Raises:
        TraceError: there is no line.
    """
    header = next(lines, None)
    if header is None:
        raise TraceError(f"{source} is empty")
    return [cell.strip() for cell in header.cells]


def rows_from_table(header: list[str], lines: Iterable[Line], source: str) -> tuple[Row, ...]:
    """The rows of a table with our own columns, or with a pair of `OTHER_NAMES`."""
    rows = collected(_rows(header, lines, source), source)
    if not rows:
        raise TraceError(f"{source} has a header, but no rows")
    return rows


def _rows(header: list[str], lines: Iterable[Line], source: str) -> Iterator[Row]:
    position = _positions(header, source)
    previous = 0.0
    for line in lines:
        name = f"{source} line {line.number}"
        if len(line.cells) != len(header):
            raise TraceError(f"{name} has {len(line.cells)} cells, but the header names {len(header)}")
        cells = {own: line.cells[i].strip() for own, i in position.items()}
        row = _row(cells, previous, name)
        previous = row.arrival_time or 0.0
        yield row


def _positions(header: list[str], source: str) -> dict[str, int]:
    """The position of each of our own columns."""
    for names in OTHER_NAMES:
        if all(header.count(name) == 1 for name in names) and not set(COLUMNS) & set(header):
            return {own: header.index(name) for own, name in zip(REQUIRED_COLUMNS, names, strict=True)}
    _check_header(header, source)
    return {name: index for index, name in enumerate(header)}


def _row(cells: dict[str, str], previous: float, line: str) -> Row:
    """One row from its cells by column; the row before it arrived at `previous`."""
    n, beam_width = (_width(cells.get(name, ""), name, line) for name in ("n", "beam_width"))
    if (n or 1) > 1 and (beam_width or 1) > 1:
        raise TraceError(f"{line} has both n and beam_width: leave one of the cells empty")
    arrival = cells.get("arrival_s")
    return Row(
        prompt_len=length_of(cells["prompt_len"], "prompt_len", line),
        output_len=length_of(cells["output_len"], "output_len", line),
        arrival_time=None if arrival is None else _arrival(arrival, previous, line),
        session=cells.get("session") or None,
        n=n,
        beam_width=beam_width,
    )


def table_lines(lines: Iterable[str], source: str) -> Iterator[Line]:
    """The lines of a CSV file that are not blank.

    Raises:
        TraceError: a line is too long or malformed, or there are too many.
    """
    length = 0  # of the line so far, and of blank lines before it; in quotes it may go on for several

    def bounded() -> Iterator[str]:
        nonlocal length
        for line in lines:
            length += len(line)
            if length > MAX_LINE_LEN:
                raise TraceError(
                    f"{source} line {reader.line_num + 1} is longer than {MAX_LINE_LEN:,} characters, or "
                    f"follows as many blanks: a CSV trace has lines of {','.join(REQUIRED_COLUMNS)}"
                )
            yield line

    reader = csv.reader(bounded())
    try:
        for number, cells in enumerate(reader, start=1):
            if number > MAX_RECORDS:
                raise TraceError(f"{source} has more than {MAX_RECORDS:,} lines: keep only a part of it")
            if any(cell.strip() for cell in cells):
                length = 0
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


def length_of(cell: str, column: str, line: str) -> int:
    """A length in tokens.

    Args:
        line: the file's name and the line's number, for the error message.

    Raises:
        TraceError: the cell does not hold one.
    """
    digits = cell.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise _error(cell, column, line, "which is not a whole number")
    # A longer number is too large whatever its digits, and int() refuses some thousand of them.
    length = int(digits) if len(digits) <= 18 else MAX_LENGTH + 1
    if digits != cell:
        raise _error(cell, column, line, "but a length is 0 or more")
    if length > MAX_LENGTH:
        raise _error(cell, column, line, f"more than {MAX_LENGTH} tokens")
    return length


def _width(cell: str, column: str, line: str) -> int | None:
    if not cell:
        return None
    if not (cell.isascii() and cell.isdigit() and len(cell) <= 9 and 1 <= int(cell) <= MAX_WIDTH):
        problem = f"but must be a whole number from 1 to {MAX_WIDTH}, or empty for the run's own"
        raise _error(cell, column, line, problem)
    return int(cell)


def _arrival(cell: str, previous: float, line: str) -> float:
    try:
        arrival_time = float(cell)
    except ValueError:
        raise _error(cell, "arrival_s", line, "which is not a number") from None
    if not math.isfinite(arrival_time) or arrival_time < 0:
        raise _error(cell, "arrival_s", line, "but must be finite and 0 or more seconds")
    if arrival_time > MAX_ARRIVAL_TIME:
        problem = (
            f"more than {MAX_ARRIVAL_TIME:g} seconds after the start: subtract the time of the first row"
        )
        raise _error(cell, "arrival_s", line, problem)
    if arrival_time < previous:
        raise _error(cell, "arrival_s", line, "earlier than the row before it: sort the file by arrival_s")
    return arrival_time


def _error(cell: str, column: str, line: str, problem: str) -> TraceError:
    return TraceError(f"{line}: {column} is {shown(cell)}, {problem}")


def write_lengths(rows: Sequence[Row], path: str | Path) -> None:
    """Write rows as our own CSV, gzipped if the name ends in `.gz`; token ids are not written.

    The column `arrival_s` is written if every row has a time, `session`, `n` and `beam_width` if any row
    has one. The file appears whole or not at all.

    Raises:
        TraceError: there are no rows, or the file cannot be written.
    """
    if not rows:
        raise TraceError(f"there are no rows to write to {path}")
    columns = list(REQUIRED_COLUMNS)
    if all(row.arrival_time is not None for row in rows):
        columns.append("arrival_s")
    columns += [name for name in COLUMNS[3:] if any(getattr(row, name) is not None for row in rows)]
    names = ["arrival_time" if name == "arrival_s" else name for name in columns]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")  # writes a float so that it reads back the same
    writer.writerow(columns)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    write_text(path, table.getvalue())
