"""JsonStream: reads a JSON document value by value, so that memory holds one record at a time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pagedbench.workload.rows import TraceError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RECORD_LEN = 8_000_000
"""Most characters of a value or of a line of JSON; a longer one is not a request or a conversation."""

MAX_NAMES = 10_000
"""Most names of the object that is the whole document."""

_DECODER = json.JSONDecoder()
_BLANKS = re.compile(r"[ \t\n\r]*")
_LONGEST_WORD = len("-Infinity")
_LOOK_AHEAD = len("e+")  # a number may continue after this many characters


class JsonStream:
    """Reads a document from pieces of text.

    ::

        text   | what was read | the value that is read now ... | not in memory yet
               0               at                               len(text)
    """

    def __init__(self, pieces: Iterator[str], source: str) -> None:
        """`source`: the file's name, for error messages."""
        self._pieces = pieces
        self._source = source
        self._text = ""
        self._at = 0
        self._line, self._column = 1, 1  # of the text's first character

    def next_character(self) -> str:
        """The next character that is not blank, without consuming it; empty at the end of the file."""
        while True:
            blanks = _BLANKS.match(self._text, self._at)
            assert blanks is not None, "an empty string matches"
            self._at = blanks.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def elements(self) -> Iterator[object]:
        """Read the elements of the list that begins here.

        Raises:
            TraceError: the JSON is malformed, or an element is too long or too deeply nested.
        """
        self._take("[")
        if self.next_character() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._take(",]") == "]":
                return

    def names(self) -> Iterator[str]:
        """Read the names of the object that begins here; the caller reads the value after each name.

        Raises:
            TraceError: the JSON is malformed, or there are too many names.
        """
        self._take("{")
        if self.next_character() == "}":
            self._at += 1
            return
        for _ in range(MAX_NAMES):
            if self.next_character() != '"':
                raise self._malformed("Expecting property name enclosed in double quotes", self._at)
            name = str(self.value())
            self._take(":")
            yield name
            if self._take(",}") == "}":
                return
        raise self._error(f"follows {MAX_NAMES:,} others of one object, which is not a trace")

    def value(self) -> object:
        """Read the next value as a whole.

        Raises:
            TraceError: the JSON is malformed, or the value is too long or too deeply nested.
        """
        self.next_character()
        problem: TraceError | None = None
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_cut = error.pos >= len(self._text) - _LONGEST_WORD or "Unterminated" in error.msg
                problem = self._malformed(error.msg, error.pos)
                if not is_cut:
                    raise problem from error
            except RecursionError:
                raise self._error("nests lists or objects too deeply to be read") from None
            except ValueError:  # the interpreter refuses numbers of several thousand digits
                raise self._error("holds a number of thousands of digits: correct it") from None
            else:
                if end + _LOOK_AHEAD < len(self._text):
                    self._at = end
                    return value
                problem = None
            if len(self._text) - self._at > MAX_RECORD_LEN:
                raise self._error(f"is longer than {MAX_RECORD_LEN:,} characters: leave it out")
            if not self._grow():
                if problem is not None:
                    raise problem
                self._at = end
                return value

    def finish(self) -> None:
        """Check that the document ends here.

        Raises:
            TraceError: it does not.
        """
        if self.next_character():
            raise self._malformed("Extra data", self._at)

    def _take(self, expected: str) -> str:
        """Consume the next character, which must be one of the expected."""
        found = self.next_character()
        if not found or found not in expected:
            raise self._malformed(f"Expecting {' or '.join(expected)}", self._at)
        self._at += 1
        return found

    def _grow(self) -> bool:
        """Drop what was read, and at least double the rest. Returns False at the end of the file."""
        missing = max(len(self._text) - self._at, 1)
        parts: list[str] = []
        while missing > 0 and (piece := next(self._pieces, "")):
            parts.append(piece)
            missing -= len(piece)
        if not parts:
            return False
        self._line, self._column = self._place(self._at)
        self._text, self._at = "".join([self._text[self._at :], *parts]), 0
        return True

    def _place(self, position: int) -> tuple[int, int]:
        """The line and column in the file, from 1, of a position in the text in memory."""
        newlines = self._text.count("\n", 0, position)
        if not newlines:
            return self._line, self._column + position
        return self._line + newlines, position - self._text.rfind("\n", 0, position)

    def _malformed(self, problem: str, position: int) -> TraceError:
        line, column = self._place(position)
        return TraceError(f"{self._source} is not valid JSON: {problem} at line {line}, column {column}")

    def _error(self, problem: str) -> TraceError:
        line, column = self._place(self._at)
        return TraceError(f"{self._source}: the value at line {line}, column {column} {problem}")
