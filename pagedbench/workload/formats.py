"""Trace files: the format is recognised by the content, and the rows are read."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.workload.json_stream import JsonStream
from pagedbench.workload.lengths_csv import MAX_WIDTH, parse_lengths
from pagedbench.workload.records import read_records
from pagedbench.workload.rows import MAX_LENGTH, Reading, Row, TraceError, collected, shown
from pagedbench.workload.text_stream import from_first_character, lines_of, text_pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedReader

    from pagedbench.workload.tokenizer import LoadTokenizer

MAX_VOCABULARY = 300_000
"""Most different tokens in a file; the largest vocabularies have 0.26 million."""

_TOKEN_FIELDS = frozenset({"prompt", "out"})
_WIDTH_FIELDS = ("n", "beam_width")


def read_file(path: str | Path, load_tokenizer: LoadTokenizer, *, chat: bool = False) -> Reading:
    """The rows of a trace file: our own CSV, ShareGPT, Alpaca or token-id JSON, each also gzipped.

    Args:
        load_tokenizer: called only if the file holds text.
        chat: conversations with all their turns, instead of the first ones.

    Raises:
        TraceError: the file cannot be read, or its content is malformed.
    """
    with _opened(path) as file:
        return parse(file, str(path), load_tokenizer, chat=chat)


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
    file: BufferedReader, source: str, load_tokenizer: LoadTokenizer, *, chat: bool = False
) -> Reading:
    """The rows of a file that is open for reading bytes; `source` is its name, for error messages.

    The file is read as a stream: apart from the rows, memory holds one line or record at a time.

    Raises:
        TraceError: the content cannot be read, or is malformed.
    """
    pieces = text_pieces(file, source)
    first, beginning = from_first_character(pieces, source)
    pieces = itertools.chain([beginning], pieces)
    if first not in "[{":
        return Reading(parse_lengths(lines_of(pieces), source))
    document = JsonStream(pieces, source)
    if first == "[":
        reading = read_records(document.elements(), source, load_tokenizer, chat=chat)
    else:
        reading = Reading(_token_rows(document, source))
    document.finish()
    return reading


def _token_rows(document: JsonStream, source: str) -> tuple[Row, ...]:
    """The rows of `{"requests": [{"prompt": [ids], "out": n}]}`, whose prompts are token ids."""
    rows: tuple[Row, ...] | None = None
    for name in document.names():
        if name == "requests" and document.next_character() == "[":
            rows = collected(_requests(document.elements(), source), source)
        else:
            document.value()
    if rows is None:
        raise TraceError(
            f'{source} is a JSON object without a list "requests": a trace is a list of ShareGPT or Alpaca '
            'records, or {"requests": [{"prompt": [ids], "out": n}]}'
        )
    if not rows:
        raise TraceError(f"{source} holds no requests")
    return rows


def _requests(requests: Iterable[object], source: str) -> Iterator[Row]:
    known: dict[int, int] = {}  # one int object for each id
    for number, request in enumerate(requests, start=1):
        yield _token_row(request, number, source, known)
        if len(known) > MAX_VOCABULARY:
            raise TraceError(
                f"{source} holds more than {MAX_VOCABULARY:,} different token ids, more than any model "
                "knows: correct its prompts"
            )


def _token_row(request: object, number: int, source: str, known: dict[int, int]) -> Row:
    """The row of a request. `known` maps each token id seen so far to one int object."""
    if not isinstance(request, dict) or not _has_token_fields(request):
        raise TraceError(
            f'{source} request {number} is {shown(request)}, but must have "prompt" and "out", '
            'and may have "n" or "beam_width"'
        )
    prompt, output_len = request["prompt"], request["out"]
    if not isinstance(prompt, list) or not all(_is_count(token) for token in prompt):
        raise TraceError(
            f"{source} request {number}: prompt must be a list of token ids, whole numbers from 0"
        )
    if not _is_count(output_len):
        raise TraceError(
            f"{source} request {number}: out is {shown(output_len)}, but must be a whole number from 0"
        )
    n, beam_width = (request.get(name) for name in _WIDTH_FIELDS)
    for name, width in zip(_WIDTH_FIELDS, (n, beam_width), strict=True):
        if width is not None and not (_is_count(width) and 1 <= width <= MAX_WIDTH):
            raise TraceError(
                f"{source} request {number}: {name} is {shown(width)}, but must be a whole number from 1 "
                f"to {MAX_WIDTH}"
            )
    if (n or 1) > 1 and (beam_width or 1) > 1:
        raise TraceError(f"{source} request {number} has both n and beam_width: leave out one of them")
    token_ids = tuple(known.setdefault(token, token) for token in prompt)
    return Row(len(prompt), output_len, token_ids, n=n, beam_width=beam_width)


def _has_token_fields(request: dict[str, object]) -> bool:
    return _TOKEN_FIELDS <= request.keys() <= _TOKEN_FIELDS | set(_WIDTH_FIELDS)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_LENGTH  # type(), because True is an int too
