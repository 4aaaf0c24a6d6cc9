"""The text of a file in pieces, decompressed and decoded, so that memory does not grow with the file."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from typing import TYPE_CHECKING

from pagedbench.workload.rows import TraceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_LINE_LEN = 1_000_000
"""Most characters of a line: a longer one cannot be a row of requests."""

_PIECE_SIZE = 2**16
_GZIP_MAGIC = b"\x1f\x8b"


def text_pieces(file: io.BufferedReader, source: str) -> Iterator[str]:
    """The text of a UTF-8 file, which may be gzipped, in pieces that are not empty.

    Raises:
        TraceError: the file cannot be read, is damaged, or is not text.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    num_bytes = 0
    try:
        is_gzip = file.peek(2)[:2] == _GZIP_MAGIC
        stream = gzip.GzipFile(fileobj=file) if is_gzip else file
        while data := stream.read(_PIECE_SIZE):
            num_bytes += len(data)
            if piece := decoder.decode(data):
                yield piece
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        position = num_bytes - len(error.object) + error.start
        raise TraceError(f"{source} is not UTF-8 text: byte {position} cannot be read") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(f"{source} is a damaged gzip file: {error}") from error
    except OSError as error:
        raise TraceError(f"cannot read the trace file {source}: {error}") from error


def from_first_character(pieces: Iterator[str], source: str) -> tuple[str, str]:
    """The first character that is not blank, and the text read to find it.

    Raises:
        TraceError: there is none, or it follows more than `MAX_LINE_LEN` blanks.
    """
    text = ""
    for piece in pieces:
        text += piece
        if first := text.lstrip()[:1]:
            return first, text
        if len(text) > MAX_LINE_LEN:
            raise TraceError(f"{source} begins with more than {MAX_LINE_LEN:,} blanks: remove them")
    raise TraceError(f"{source} is empty")


def lines_of(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a text with their ends; a line longer than `MAX_LINE_LEN` comes in parts."""
    rest = ""
    for piece in pieces:
        lines = io.StringIO(rest + piece, newline="").readlines()
        rest = lines.pop()
        yield from lines
        # A carriage return may be followed by the other half of a line's end.
        if rest.endswith("\n") or len(rest) > MAX_LINE_LEN:
            yield rest
            rest = ""
    if rest:
        yield rest
