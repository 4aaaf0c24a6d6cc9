"""Traces with one JSON object per line; the fields of the first one decide which format it is."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from pagedbench.workload.json_stream import MAX_RECORD_LEN
from pagedbench.workload.readers.block_lines import read_bailian, read_blocks
from pagedbench.workload.readers.own_lines import FORMAT, read_own
from pagedbench.workload.readers.record import Record, record_of
from pagedbench.workload.readers.request_lines import read_aibrix, read_servingsim
from pagedbench.workload.rows import MAX_RECORDS, Reading, TraceError, shown
from pagedbench.workload.text_stream import MAX_LINE_LEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

KNOWN = (
    f'{{"format": "{FORMAT}"}} (our own), hash_ids and input_length (Mooncake, Bailian and others), '
    "timestamp and requests (AIBrix), or input_toks and output_toks (LLMServingSim)"
)


def first_line(pieces: Iterator[str]) -> tuple[str, bool]:
    """The text up to the end of the first line that is not blank, and perhaps more.

    Returns:
        The text that was read, and whether it holds the whole line.
    """
    parts, length, has_begun = list[str](), 0, False
    for piece in pieces:
        parts.append(piece)
        length += len(piece)
        text = piece if has_begun else piece.lstrip()
        has_begun = has_begun or bool(text)
        if "\n" in text:
            return "".join(parts), True
        if length > MAX_RECORD_LEN:
            return "".join(parts), False
    return "".join(parts), True


def is_json_lines(text: str) -> bool:
    """Does a file that begins with this text hold one object per line, rather than one document?"""
    try:
        fields = json.loads(text.lstrip().partition("\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and ("requests" not in fields or "timestamp" in fields) and bool(fields)


def read_lines(pieces: Iterable[str], source: str, block_size: int | None) -> Reading:
    """The rows of a file with one object per line.

    Args:
        block_size: tokens per block, where the trace does not say.

    Raises:
        TraceError: a line is malformed, or no format has such fields.
    """
    records = _records(pieces, source)
    first = next(records)
    everything = itertools.chain([first], records)
    names = first.fields.keys()
    if "format" in names:
        reading = read_own(everything, source)
    elif names >= {"hash_ids", "input_length", "chat_id"}:
        reading = read_bailian(everything, source, block_size)
    elif names >= {"hash_ids", "input_length"}:
        reading = read_blocks(everything, source, block_size)
    elif names >= {"timestamp", "requests"}:
        reading = read_aibrix(everything, source)
    elif names >= {"input_toks", "output_toks"}:
        reading = read_servingsim(everything, source)
    else:
        found = ", ".join(shown(name) for name in list(names)[:6])
        raise TraceError(f"{first.place} has the fields {found}, but a trace of JSON lines has {KNOWN}")
    return reading


def _records(pieces: Iterable[str], source: str) -> Iterator[Record]:
    for number, line in _lines(pieces, source):
        place = f"{source} line {number}"
        if number > MAX_RECORDS:
            raise TraceError(f"{source} has more than {MAX_RECORDS:,} lines: keep only a part of it")
        yield record_of(_value(line, place), place)


def _value(line: str, place: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise TraceError(f"{place} is not valid JSON: {error.msg} at column {error.colno}") from error
    except RecursionError:
        raise TraceError(f"{place} nests lists or objects too deeply to be read") from None
    except ValueError:  # the interpreter refuses numbers of several thousand digits
        raise TraceError(f"{place} holds a number of thousands of digits: correct it") from None


def _lines(pieces: Iterable[str], source: str) -> Iterator[tuple[int, str]]:
    """The number and the text of every line that is not blank."""
    number, parts, length, num_blanks = 1, list[str](), 0, 0
    for piece in pieces:
        *ends, rest = piece.split("\n")
        for end in ends:
            line = "".join([*parts, end]) if parts else end
            parts, length = [], 0
            if line and not line.isspace():
                num_blanks = 0
                yield number, line
            else:
                num_blanks += len(line) + 1
            number += 1
        parts.append(rest)
        length += len(rest)
        if length > MAX_RECORD_LEN:
            raise TraceError(
                f"{source} line {number} is longer than {MAX_RECORD_LEN:,} characters: leave it out"
            )
        if num_blanks > MAX_LINE_LEN:
            raise TraceError(f"{source} has more than {MAX_LINE_LEN:,} blanks before line {number}")
    line = "".join(parts)
    if line and not line.isspace():
        yield number, line
