"""Trace files: the format is recognised by the content, and the rows are read."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.workload.json_stream import JsonStream
from pagedbench.workload.readers.documents import read_document
from pagedbench.workload.readers.json_lines import first_line, is_json_lines, read_lines
from pagedbench.workload.readers.timed_csv import read_table
from pagedbench.workload.readers.weka import WekaSessions
from pagedbench.workload.records import read_records
from pagedbench.workload.rows import Reading, Row, TraceError, in_order
from pagedbench.workload.text_stream import from_first_character, lines_of, text_pieces

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BufferedReader

    from pagedbench.workload.tokenizer import LoadTokenizer

_SESSION_SUFFIXES = (".json", ".json.gz")


def read_file(
    path: str | Path, load_tokenizer: LoadTokenizer, *, chat: bool = False, block_size: int | None = None
) -> Reading:
    """The rows of a trace file in any of the formats of workload/README.md, each also gzipped.

    Args:
        load_tokenizer: called only if the file holds text.
        chat: conversations with all their turns, instead of the first ones.
        block_size: tokens per block of traces whose block ids come without a size.

    Raises:
        TraceError: the file cannot be read, or its content is malformed.
    """
    with _opened(path) as file:
        return parse(file, str(path), load_tokenizer, chat=chat, block_size=block_size)


def has_sessions(folder: Path) -> bool:
    """May this folder hold Weka sessions, by the names of its files?"""
    return bool(_session_files(folder))


def read_folder(folder: Path, block_size: int | None = None) -> Reading:
    """The rows of a folder of Weka sessions, one session after the other, in order of the files' names.

    They have no arrival times, because each file counts from the beginning of its own session.

    Raises:
        TraceError: a file cannot be read, or holds something else.
    """
    sessions = WekaSessions(str(folder), block_size)
    rows: list[Row] = []
    for path in _session_files(folder):
        with _opened(path) as file:
            rows += _session_rows(file, path, sessions)
    if not rows:
        raise TraceError(f"{folder} holds no .json or .json.gz file: name a trace file in it")
    return Reading(tuple(rows))


def _session_rows(file: BufferedReader, path: Path, sessions: WekaSessions) -> Sequence[Row]:
    pieces = text_pieces(file, str(path))
    first, beginning = from_first_character(pieces, str(path))
    document = JsonStream(itertools.chain([beginning], pieces), str(path))
    rows: Sequence[Row] = ()
    if first == "{":
        rows = read_document(document, str(path), sessions, path.name, timed=False)
        document.finish()
    if not rows or rows[0].session is None:
        raise TraceError(
            f"{path} is not a Weka session: in a folder that is a trace, every .json file must be one"
        )
    return rows


def _session_files(folder: Path) -> list[Path]:
    try:
        names = sorted(path for path in folder.iterdir() if path.name.endswith(_SESSION_SUFFIXES))
    except OSError as error:
        raise TraceError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    return names


def _opened(path: str | Path) -> BufferedReader:
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise TraceError(f"the trace file {path} does not exist") from None
    except IsADirectoryError:
        raise TraceError(f"{path} is a folder: name a trace file in it") from None
    except (OSError, ValueError) as error:  # ValueError: no file can have this name
        raise TraceError(f"cannot read the trace file {path}: {error}") from error


def parse(
    file: BufferedReader,
    source: str,
    load_tokenizer: LoadTokenizer,
    *,
    chat: bool = False,
    block_size: int | None = None,
) -> Reading:
    """The rows of a file that is open for reading bytes; `source` is its name, for error messages.

    The file is read as a stream: apart from the rows, memory holds one line or record at a time.

    Raises:
        TraceError: the content cannot be read, or is malformed.
    """
    pieces = text_pieces(file, source)
    first, beginning = from_first_character(pieces, source)
    pieces = itertools.chain([beginning], pieces)
    if first == "{":
        text, is_whole = first_line(pieces)
        pieces = itertools.chain([text], pieces)
        if is_whole and is_json_lines(text):
            return read_lines(pieces, source, block_size)
    elif first != "[":
        return read_table(lines_of(pieces), source)
    document = JsonStream(pieces, source)
    if first == "[":
        reading = read_records(document.elements(), source, load_tokenizer, chat=chat)
    else:
        sessions = WekaSessions(source, block_size)
        rows = read_document(document, source, sessions, Path(source).name, timed=True)
        reading = Reading(in_order(tuple(rows), source))
    document.finish()
    return reading
