"""Record: one JSON object of a trace, whose fields are checked as they are read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pagedbench.workload.rows import MAX_LENGTH, TraceError, shown

MAX_TIME = 1e18
"""Largest time: a time of day in any unit is smaller."""

MAX_BLOCK_SIZE = 1_000_000
"""Most tokens of a block."""

_MAX_NAME_LEN = 1000


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of one JSON object.

    Attributes:
        place: the file's name and the place in it, for error messages.
    """

    fields: dict[str, Any]
    place: str

    def has(self, name: str) -> bool:
        """Is there such a field, and is it not null?"""
        return self.fields.get(name) is not None

    def length(self, name: str) -> int:
        """A number of tokens."""
        return self._whole(name, 0, MAX_LENGTH)

    def whole(self, name: str, low: int, high: int) -> int | None:
        """A whole number within bounds; None if there is no such field."""
        return self._whole(name, low, high) if self.has(name) else None

    def block_size(self) -> int | None:
        return self.whole("block_size", 1, MAX_BLOCK_SIZE)

    def time(self, name: str, unit: float = 1.0, low: float = -math.inf) -> float:
        """A time in seconds; in the file it is in units of `unit` seconds."""
        value = self.fields.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < MAX_TIME:
            raise self.error(name, "must be a number")
        if value < low:
            raise self.error(name, f"must be {low:g} or more")
        return value * unit if unit >= 1 else value / round(1 / unit)  # 300 ms are 0.3 s to the last digit

    def optional_time(self, name: str, unit: float = 1.0, low: float = 0.0) -> float | None:
        return self.time(name, unit, low) if self.has(name) else None

    def name(self, name: str) -> str:
        """A text or a number that names something."""
        value = self.fields.get(name)
        is_name = isinstance(value, str | int | float) and not isinstance(value, bool)
        if not is_name or len(str(value)) > _MAX_NAME_LEN:
            raise self.error(name, f"must be a text or a number of at most {_MAX_NAME_LEN:,} characters")
        return str(value)

    def ids(self, name: str, most: int | None = None) -> list[int]:
        """A list of whole numbers, from 0 to `most` if that is given."""
        value = self._list(name)
        if not set(map(type, value)) <= {int}:  # not isinstance(), because True is an int too
            raise self.error(name, "must be a list of whole numbers")
        if most is not None and value and not 0 <= min(value) <= max(value) <= most:
            raise self.error(name, f"must be a list of whole numbers from 0 to {most:,}")
        return value

    def hashes(self, name: str) -> list[int] | list[str]:
        """A list of whole numbers, or of texts."""
        value = self._list(name)
        if set(map(type, value)) not in (set(), {int}, {str}):
            raise self.error(name, "must be a list of whole numbers, or of texts")
        return value

    def records(self, name: str) -> list[Record]:
        """A list of objects."""
        return [
            record_of(value, f"{self.place}, {name} {number}")
            for number, value in enumerate(self._list(name), start=1)
        ]

    def error(self, name: str, problem: str) -> TraceError:
        """The error of a field; `problem` says what it must be."""
        return TraceError(f"{self.place}: {name} is {shown(self.fields.get(name))}, but {problem}")

    def _whole(self, name: str, low: int, high: int) -> int:
        value = self.fields.get(name)
        if type(value) is not int or not low <= value <= high:
            raise self.error(name, f"must be a whole number from {low} to {high:,}")
        return value

    def _list(self, name: str) -> list[Any]:
        value = self.fields.get(name)
        if not isinstance(value, list):
            raise self.error(name, "must be a list")
        return value


def record_of(value: object, place: str) -> Record:
    """The record that a JSON value is.

    Raises:
        TraceError: it is not an object.
    """
    if not isinstance(value, dict):
        raise TraceError(f"{place} is {shown(value)}, but must be an object with fields")
    return Record(value, place)
