"""Which format a trace file has, told by its content, and the rows in it."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.workload.lengths_csv import MAX_WIDTH, parse_lengths
from pagedbench.workload.records import read_records
from pagedbench.workload.rows import MAX_LENGTH, Reading, Row, TraceError, shown

if TYPE_CHECKING:
    from pagedbench.workload.tokenizer import LoadTokenizer

_GZIP_MAGIC = b"\x1f\x8b"
_TOKEN_FIELDS = frozenset({"prompt", "out"})
_WIDTH_FIELDS = ("n", "beam_width")


def read_file(path: str | Path, load_tokenizer: LoadTokenizer, *, chat: bool = False) -> Reading:
    """The rows of a trace file: our own CSV, ShareGPT, Alpaca or token-id JSON, each also gzipped.

    Args:
        load_tokenizer: called only if the file holds text.
        chat: conversations with all their turns, not their first ones alone.

    Raises:
        TraceError: the file cannot be read, or its content is malformed.
    """
    return parse(read_bytes(path), str(path), load_tokenizer, chat=chat)


def read_bytes(path: str | Path) -> bytes:
    """A file's bytes.

    Raises:
        TraceError: it does not exist, is a folder, or may not be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise TraceError(f"the trace file {path} does not exist") from None
    except IsADirectoryError:
        raise TraceError(f"{path} is a folder: name a trace file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise TraceError(f"cannot read the trace file {path}: {error}") from error


def parse(data: bytes, source: str, load_tokenizer: LoadTokenizer, *, chat: bool = False) -> Reading:
    """The rows in a file's bytes; `source` is its name, for error messages.

    Raises:
        TraceError: the content is malformed.
    """
    text = _decoded(data, source)
    start = text.lstrip()[:1]
    if not start:
        raise TraceError(f"{source} is empty")
    if start not in "[{":
        return Reading(parse_lengths(text, source))
    content = _json(text, source)
    if isinstance(content, list):
        return read_records(content, source, load_tokenizer, chat=chat)
    assert isinstance(content, dict)  # text that begins with { is an object
    return Reading(_token_rows(content, source))


def _decoded(data: bytes, source: str) -> str:
    if data.startswith(_GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise TraceError(f"{source} is a damaged gzip file: {error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TraceError(f"{source} is not UTF-8 text: byte {error.start} cannot be read") from error


def _json(text: str, source: str) -> object:
    try:
        content: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise TraceError(
            f"{source} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; too deeply nested
        raise TraceError(f"{source} is JSON that cannot be read: {error}") from error
    return content


def _token_rows(content: dict[str, object], source: str) -> tuple[Row, ...]:
    """`{"requests": [{"prompt": [ids], "out": n}]}`: prompts as token ids."""
    requests = content.get("requests")
    if not isinstance(requests, list):
        raise TraceError(
            f'{source} is a JSON object without a list "requests": a trace is a list of ShareGPT or Alpaca '
            'records, or {"requests": [{"prompt": [ids], "out": n}]}'
        )
    if not requests:
        raise TraceError(f"{source} holds no requests")
    return tuple(_token_row(request, number, source) for number, request in enumerate(requests, start=1))


def _token_row(request: object, number: int, source: str) -> Row:
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
    return Row(len(prompt), output_len, tuple(prompt), n=n, beam_width=beam_width)


def _has_token_fields(request: dict[str, object]) -> bool:
    return _TOKEN_FIELDS <= request.keys() <= _TOKEN_FIELDS | set(_WIDTH_FIELDS)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_LENGTH  # type(), because True is an int too
