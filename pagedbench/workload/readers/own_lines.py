"""Our own JSONL trace: one object per request with all fields of a row, after a line with the format.

{"format": "pagedbench trace", "version": 1, "block_size": 64}
{"prompt_len": 130, "output_len": 9, "session": "a", "block_ids": [0, 1, 2], "turn": {"index": 0}}
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pagedbench.workload.lengths_csv import MAX_WIDTH
from pagedbench.workload.readers.block_lines import blocks_of
from pagedbench.workload.readers.block_numbers import BlockNumbers
from pagedbench.workload.readers.record import MAX_TIME, record_of
from pagedbench.workload.readers.token_ids import TokenIds
from pagedbench.workload.rows import (
    MAX_ARRIVAL_TIME,
    MAX_LENGTH,
    BlockIds,
    Reading,
    Row,
    TraceError,
    Turn,
    collected,
    shown,
)
from pagedbench.workload.whole_file import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pagedbench.workload.readers.record import Record

FORMAT = "pagedbench trace"
VERSION = 1

FIELDS = (
    *("prompt_len", "output_len", "arrival_s", "session", "n", "beam_width"),
    *("token_ids", "block_ids", "block_size", "turn"),
)
TURN_FIELDS = ("index", "waits_for", "think_s", "gap_s", "api_s")


def read_own(records: Iterator[Record], source: str) -> Reading:
    """The rows of our own JSONL.

    Raises:
        TraceError: the version is unknown, or a record is malformed.
    """
    header = next(records)
    if header.fields.get("format") != FORMAT:
        raise header.error("format", f'must be "{FORMAT}"')
    if header.whole("version", 0, MAX_LENGTH) != VERSION:
        raise header.error("version", f"this release reads version {VERSION}")
    rows = collected(_rows(records, header.block_size(), source), source)
    if not rows:
        raise TraceError(f"{source} has a header, but no requests")
    return Reading(rows)


def _rows(records: Iterator[Record], block_size: int | None, source: str) -> Iterator[Row]:
    numbers, tokens = BlockNumbers(source), TokenIds(source)
    previous: tuple[int, ...] | None = None
    time = 0.0
    is_timed: bool | None = None
    for record in records:
        _check_names(record, FIELDS)
        n, beam_width = (record.whole(name, 1, MAX_WIDTH) for name in ("n", "beam_width"))
        if (n or 1) > 1 and (beam_width or 1) > 1:
            raise TraceError(f"{record.place} has both n and beam_width: leave out one of them")
        arrival = record.optional_time("arrival_s", low=time)
        is_timed = arrival is not None if is_timed is None else is_timed
        if is_timed != (arrival is not None) or (arrival or 0.0) > MAX_ARRIVAL_TIME:
            raise record.error(
                "arrival_s", f"all requests must have one, up to {MAX_ARRIVAL_TIME:g}, or none of them"
            )
        time = arrival or 0.0
        ids = tokens.of(record, "token_ids") if record.has("token_ids") else None
        if ids == previous:  # turns of a conversation share their ids
            ids = previous
        previous = ids
        yield Row(
            record.length("prompt_len"),
            record.length("output_len"),
            ids,
            arrival,
            record.name("session") if record.has("session") else None,
            n,
            beam_width,
            _blocks(record, block_size, numbers),
            _turn(record),
        )


def _blocks(record: Record, block_size: int | None, numbers: BlockNumbers) -> BlockIds | None:
    if not record.has("block_ids"):
        return None
    size = record.block_size() or block_size
    if size is None:
        raise record.error("block_size", "must be given here or in the first line, because of block_ids")
    return blocks_of(record, "prompt_len", size, numbers, "block_ids")


def _turn(record: Record) -> Turn | None:
    if not record.has("turn"):
        return None
    turn = record_of(record.fields["turn"], f"{record.place}, turn")
    _check_names(turn, TURN_FIELDS)
    if not record.has("session"):
        raise record.error("session", "must be given, because of turn")
    index = turn.length("index")
    return Turn(
        index,
        tuple(turn.ids("waits_for", MAX_LENGTH)) if turn.has("waits_for") else (),
        turn.optional_time("think_s"),
        turn.optional_time("gap_s", low=-MAX_TIME) or 0.0,
        turn.optional_time("api_s") or 0.0,
    )


def _check_names(record: Record, known: tuple[str, ...]) -> None:
    unknown = record.fields.keys() - set(known)
    if unknown:
        names = ", ".join(shown(name) for name in sorted(unknown)[:6])
        raise TraceError(f"{record.place} has the unknown field {names}: the fields are {', '.join(known)}")


def write_own(rows: Sequence[Row], path: str | Path) -> None:
    """Write rows as our own JSONL, gzipped if the name ends in `.gz`, whole or not at all.

    Raises:
        TraceError: there are no rows, or the file cannot be written.
    """
    if not rows:
        raise TraceError(f"there are no rows to write to {path}")
    sizes = [row.blocks.size for row in rows if row.blocks is not None]
    header: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    if sizes:
        header["block_size"] = int(sizes[0])
    lines = [header, *(_fields(row, header.get("block_size")) for row in rows)]
    write_text(path, "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines))


def _fields(row: Row, block_size: int | None) -> dict[str, Any]:
    """A row as JSON; fields without a value are left out."""
    blocks, turn = row.blocks, row.turn
    fields = {
        "prompt_len": row.prompt_len,
        "output_len": row.output_len,
        "arrival_s": row.arrival_time,
        "session": row.session,
        "n": row.n,
        "beam_width": row.beam_width,
        "token_ids": row.token_ids,
        "block_ids": None if blocks is None else blocks.ids,
        "block_size": None if blocks is None or blocks.size == block_size else int(blocks.size),
        "turn": None if turn is None else _turn_fields(turn),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _turn_fields(turn: Turn) -> dict[str, Any]:
    fields = {
        "index": turn.index,
        "waits_for": turn.waits_for or None,
        "think_s": turn.think_time,
        "gap_s": turn.gap or None,
        "api_s": turn.api_time or None,
    }
    return {name: value for name, value in fields.items() if value is not None}
