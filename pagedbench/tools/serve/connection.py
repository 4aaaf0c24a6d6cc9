"""Connection: uvicorn's HTTP protocol with limits for clients who send slowly, or too much."""

from __future__ import annotations

import contextlib
import fcntl
import struct
import termios
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pagedbench.tools.serve.documents import encoded
from pagedbench.tools.serve.exchange import BODY_SECONDS
from pagedbench.tools.serve.refusal import Refusal

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

HEADER_SECONDS = 10.0
"""Seconds in which the head of a request must come, counted from the connection or from its first byte."""

LATE_BODY_SECONDS = BODY_SECONDS + 5.0
"""Seconds after which a body is late that the application does not read, and so does not refuse."""

STALL_SECONDS = 60.0
"""Seconds in which a client must take something of what was sent."""

MAX_HEAD = 64 * 2**10
"""Bytes of the head of a request."""

RECEIVED = "received"
"""In the state of a request's scope: when all of it had come, by the clock of the event loop."""


class Reader:
    """Tells whether a client still takes what is sent to it."""

    def __init__(self, now: float) -> None:
        self._num_left = 0
        self._changed = now

    def has_stalled(self, num_left: int, now: float) -> bool:
        """Whether nothing has been taken for too long. `num_left`: bytes that are not taken yet.

        Another number counts as taking, also a higher one: what a client who takes nothing can add to it
        is limited by the flow control.
        """
        if not num_left or num_left != self._num_left:
            self._num_left, self._changed = num_left, now
        return now - self._changed > STALL_SECONDS


class Connection(HttpToolsProtocol):
    """One connection. A head that is late or too long closes it; a second request in a reply does too."""

    _deadline: asyncio.TimerHandle | None = None
    _head_len = 0
    _is_in_body = False
    _reader: Reader

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._reader = Reader(self.loop.time())
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deadline is not None and not self._is_in_body:
            self._head_len += len(data)
            if self._head_len > MAX_HEAD and b"\r\n\r\n" not in data:
                self._refuse(431, f"the head of the request has more than {MAX_HEAD} bytes")
                return
        super().data_received(data)
        is_idle = self._deadline is None and not self._has_cycle and not self.transport.is_closing()
        if is_idle:  # bytes have come, which ended uvicorn's own time limit, but not a head
            self._expect_head()

    def on_message_begin(self) -> None:
        if self._deadline is None:
            self._expect_head()
        super().on_message_begin()

    def check_reader(self) -> None:
        """Disconnect a client that has taken nothing for too long of what was sent; called every second."""
        if self._reader.has_stalled(self._num_left, self.loop.time()):
            self.transport.abort()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        if self._has_cycle:  # uvicorn would not notice when this client goes away
            self.transport.abort()
            return
        self._is_in_body = True
        self._start_timer(LATE_BODY_SECONDS, self.transport.abort)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note when the last byte of the request had come: latencies count from here."""
        self._stop_timer()
        self._is_in_body = False
        self.scope["state"][RECEIVED] = self.loop.time()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this is not an HTTP request")

    @property
    def _has_cycle(self) -> bool:
        """Is a request being read or answered?"""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _num_left(self) -> int:
        """Bytes that the client has not taken: those here, and those that the system holds."""
        num_left = self.transport.get_write_buffer_size()
        with contextlib.suppress(OSError):
            handle = self.transport.get_extra_info("socket").fileno()
            (held,) = struct.unpack("i", fcntl.ioctl(handle, termios.TIOCOUTQ, bytes(4)))
            num_left += held
        return num_left

    def _expect_head(self) -> None:
        self._head_len = 0
        self._start_timer(HEADER_SECONDS, self._is_late)

    def _start_timer(self, seconds: float, act: Callable[[], None]) -> None:
        self._deadline = self.loop.call_later(seconds, act)

    def _stop_timer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_late(self) -> None:
        self._refuse(408, f"the head of the request did not come within {HEADER_SECONDS:g} seconds")

    def _refuse(self, status: int, message: str) -> None:
        """Answer by hand: there is no request that the application could answer."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self._has_cycle and not self._is_in_body:  # in the midst of a reply
            self.transport.abort()
            return
        if self._has_cycle:
            self.cycle.disconnected = True  # the application shall not answer too
        body = encoded(Refusal(status, message).document)
        head = (f"HTTP/1.1 {status} Refused", "content-type: application/json", "connection: close")
        lines = "\r\n".join((*head, f"content-length: {len(body)}", "", ""))
        self.transport.write(lines.encode() + body)
        self.transport.close()
