"""Streams: from the pieces of a reply, cut anywhere, to events with the times of their completion."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DONE = "[DONE]"
"""The data of the event that ends a stream, if a server sends one."""


class Framing(Enum):
    """How events are separated."""

    EVENTS = "server-sent events"
    LINES = "lines of JSON"


@dataclass(frozen=True, slots=True)
class Event:
    """The data of one event, and when its last byte arrived."""

    time: float
    data: str


def events_of(pieces: Iterable[tuple[float, bytes]], framing: Framing) -> Iterator[Event]:
    """The events of a reply, wherever its bytes were cut."""
    lines = _lines(pieces)
    return _data_lines(lines) if framing is Framing.EVENTS else (line for line in lines if line.data)


def _lines(pieces: Iterable[tuple[float, bytes]]) -> Iterator[Event]:
    """Lines without their endings, each at the time of the piece that ended it; then an unended rest."""
    pending, time = bytearray(), 0.0
    for time, piece in pieces:
        *whole, rest = piece.split(b"\n")
        for part in whole:
            pending += part
            yield Event(time, pending.decode("utf-8", "replace").rstrip("\r"))
            pending.clear()
        pending += rest
    if pending:
        yield Event(time, pending.decode("utf-8", "replace").rstrip("\r"))


def _data_lines(lines: Iterable[Event]) -> Iterator[Event]:
    """Server-sent events: `data:` lines up to a blank line. Comments keep a connection alive.

    An event counts when its last data line is complete: the blank line after it may come later.
    """
    parts: list[str] = []
    time = 0.0
    for line in lines:
        if line.data.startswith("data:"):
            parts.append(line.data[len("data:") :].removeprefix(" "))
            time = line.time
        elif not line.data and parts:
            yield Event(time, "\n".join(parts))
            parts = []
    if parts:
        yield Event(time, "\n".join(parts))
