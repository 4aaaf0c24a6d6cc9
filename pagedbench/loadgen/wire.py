"""Calls that are ready to be sent over the wire, and what was seen of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, encoded in advance, so that it only has to be written when it is due.

    Attributes:
        request_id: id of the trace's request.
        due: seconds from the start of the run at which it is to be sent. For a later turn of a session:
            not before this, and not before `delay` seconds after the reply to `after` has ended.
        payload: request line, headers and body.
        after: the id of the request whose reply it waits for; None: none.
        delay: think or tool time after that reply, in seconds.
    """

    request_id: int
    due: float
    payload: bytes
    after: int | None = None
    delay: float = 0.0


class Failure(StrEnum):
    """Why a call has no complete reply."""

    CONNECTION = "connection"  # refused, reset, or closed in mid-reply
    TIMEOUT = "timeout"  # the reply did not end in the allowed time
    STATUS = "status"  # a status code other than 200
    PROTOCOL = "protocol"  # a reply that is not HTTP, or not what the API promises
    STOPPED = "stopped"  # under way when the run was stopped
    SKIPPED = "skipped"  # never sent: the run ended first, or a call that it waited for has failed


@dataclass(slots=True)
class Exchange:
    """One call as it was seen at the socket. Times in seconds from the start of the run.

    Attributes:
        scheduled: when it should have been sent: its due time, or the end of what it waited for and the
            delay, if that was later. Latencies are counted from here.
        start: when the first byte was given to the socket; NaN if it was never sent.
        sent: when the last byte was taken by the socket; NaN if it never was.
        status_code: status code of the reply; None without a reply.
        pieces: the body as it arrived, without transfer encoding: (time at which `recv` returned, bytes).
        end: when the reply was complete, or the failure was noticed.
    """

    request_id: int
    scheduled: float
    start: float
    sent: float
    status_code: int | None
    pieces: list[tuple[float, bytes]]
    end: float
    failure: Failure | None = None
    detail: str = ""  # details of a failure, in a few words

    @property
    def lag(self) -> float:
        """Seconds between the scheduled time and the first byte: the generator's own error."""
        return self.start - self.scheduled
