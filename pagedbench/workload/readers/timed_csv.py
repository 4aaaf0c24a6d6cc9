"""CSV traces of services: Azure's, whose times are dates, and BurstGPT's."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pagedbench.workload.lengths_csv import header_of, length_of, rows_from_table, table_lines
from pagedbench.workload.rows import MAX_ARRIVAL_TIME, Reading, Row, TraceError, collected, in_order, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pagedbench.workload.lengths_csv import Line

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BURSTGPT_COLUMNS = ("Timestamp", "Request tokens", "Response tokens")

_MASKED = re.compile(r"X+")
"""A masked time: NanoFlow published lengths of ShareGPT in Azure's columns with it."""

_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?")


def read_table(lines: Iterable[str], source: str) -> Reading:
    """The rows of a CSV trace: our own, Azure's or BurstGPT's; the header decides which it is.

    Raises:
        TraceError: a column or a cell is missing, unknown, or impossible.
    """
    found = table_lines(lines, source)
    header = header_of(found, source)
    if all(header.count(name) == 1 for name in AZURE_COLUMNS):
        return Reading(_azure(header, found, source))
    if all(header.count(name) == 1 for name in BURSTGPT_COLUMNS):
        return _burstgpt(header, found, source)
    return Reading(rows_from_table(header, found, source))


def _azure(header: list[str], lines: Iterator[Line], source: str) -> tuple[Row, ...]:
    """Rows of `TIMESTAMP,ContextTokens,GeneratedTokens`; times count from the earliest row."""
    start: tuple[int, int] | None = None

    def rows() -> Iterator[Row]:
        nonlocal start
        for place, cells in _cells(header, AZURE_COLUMNS, lines, source):
            prompt_len, output_len = (length_of(cells[name], name, place) for name in AZURE_COLUMNS[1:])
            seconds = None
            if not _MASKED.fullmatch(cells["TIMESTAMP"]):
                time = _moment(cells["TIMESTAMP"], place)
                start = start or time
                seconds = (time[0] - start[0]) + (time[1] - start[1]) / 1e9
            yield Row(prompt_len, output_len, arrival_time=seconds)

    return in_order(_some(collected(rows(), source), source), source)


def _burstgpt(header: list[str], lines: Iterator[Line], source: str) -> Reading:
    """Rows of BurstGPT, with or without the columns `Session ID` and `Elapsed time`.

    A row without a reply is a request that failed; it is left out and counted. Sessions are not read: the
    authors do not say whether the tokens of a request include the earlier turns.
    """
    num_failed = 0

    def rows() -> Iterator[Row]:
        nonlocal num_failed
        for place, cells in _cells(header, BURSTGPT_COLUMNS, lines, source):
            prompt_len, output_len = (length_of(cells[name], name, place) for name in BURSTGPT_COLUMNS[1:])
            time = _seconds(cells["Timestamp"], place)
            if output_len:
                yield Row(prompt_len, output_len, arrival_time=time)
            else:
                num_failed += 1

    found = collected(rows(), source)
    if num_failed and not found:
        raise TraceError(f"every request of {source} failed: none has response tokens")
    return Reading(in_order(_some(found, source), source), num_failed)


def _cells(
    header: list[str], columns: tuple[str, ...], lines: Iterator[Line], source: str
) -> Iterator[tuple[str, dict[str, str]]]:
    """The place of every line, for error messages, and its cells by column."""
    positions = {name: header.index(name) for name in columns}
    for line in lines:
        place = f"{source} line {line.number}"
        if len(line.cells) != len(header):
            raise TraceError(f"{place} has {len(line.cells)} cells, but the header names {len(header)}")
        yield place, {name: line.cells[i].strip() for name, i in positions.items()}


def _some(rows: tuple[Row, ...], source: str) -> tuple[Row, ...]:
    if not rows:
        raise TraceError(f"{source} has a header, but no rows")
    return rows


def _moment(cell: str, place: str) -> tuple[int, int]:
    """A date as whole seconds and nanoseconds; without a time zone it is UTC."""
    match = _DATE.fullmatch(cell)
    try:
        if match is None:
            raise ValueError
        date, clock, fraction, zone = match.groups()
        offset = "+00:00" if zone in (None, "Z") else zone
        moment = datetime.fromisoformat(f"{date}T{clock}{offset}")
        seconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    except (ValueError, OverflowError):
        raise TraceError(
            f"{place}: TIMESTAMP is {shown(cell)}, but must be a date such as 2023-11-16 18:15:46.6805900"
        ) from None
    return seconds, int((fraction or "0").ljust(9, "0"))


def _seconds(cell: str, place: str) -> float:
    try:
        time = float(cell)
    except ValueError:
        time = -1.0
    if not 0 <= time <= MAX_ARRIVAL_TIME:
        raise TraceError(
            f"{place}: Timestamp is {shown(cell)}, but must be a number of seconds from 0 to "
            f"{MAX_ARRIVAL_TIME:g}"
        )
    return time
