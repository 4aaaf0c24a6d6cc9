"""Connection: uvicorn's HTTP protocol with limits for clients that send slowly or too much."""

from __future__ import annotations

import contextlib
import fcntl
import struct
import termios
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pagedbench.tools.serve.documents import encoded
from pagedbench.tools.serve.exchange import BODY_SECONDS
from pagedbench.tools.serve.refusal import Refusal

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

HEADER_SECONDS = 10.0
"""Seconds in which the head of a request must arrive, from the connection or from its first byte."""

LATE_BODY_SECONDS = BODY_SECONDS + 5.0
"""Seconds after which a body is late if the application does not read it, and so does not refuse it."""

STALL_SECONDS = 60.0
"""Seconds in which a client must take at least some of the sent bytes."""

MAX_HEAD = 64 * 2**10
"""The most bytes in the head of a request."""

RECEIVED, CONNECTION = "received", "connection"
"""Keys in the state of a request's scope: when all of it had arrived, by the clock of the event loop; and
its connection."""


class Reader:
    """Detects that a client no longer takes what is sent to it."""

    def __init__(self, now: float) -> None:
        self._num_left = 0
        self._changed = now

    def has_stalled(self, num_left: int, now: float) -> bool:
        """Has the client taken nothing for too long? `num_left`: bytes that are not taken yet.

        A changed number counts as taking, even if it is higher: for a client that takes nothing, flow
        control limits how far it can rise.
        """
        if not num_left or num_left != self._num_left:
            self._num_left, self._changed = num_left, now
        return now - self._changed > STALL_SECONDS


class Connection(HttpToolsProtocol):
    """One connection. A late or too long head closes it, and so does a second request during a reply."""

    _deadline: asyncio.TimerHandle | None = None
    _head_len = 0
    _is_in_body = False
    _reader: Reader

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))  # that of a socket
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
        if is_idle:  # the first bytes ended uvicorn's own time limit, but are not yet a head
            self._expect_head()

    def on_message_begin(self) -> None:
        if self._deadline is None:
            self._expect_head()
        super().on_message_begin()

    def check_reader(self) -> None:
        """Disconnect a client that has taken nothing for too long; called every second."""
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
        """Note when the last byte of the request arrived: latencies count from here."""
        self._stop_timer()
        self._is_in_body = False
        self.scope["state"] |= {RECEIVED: self.loop.time(), CONNECTION: self}
        super().on_message_complete()

    @property
    def is_writable(self) -> bool:
        """Has the client taken enough of the sent bytes to get more?"""
        return not (self.flow.write_paused or self.transport.is_closing())

    def write_part(self, body: bytes) -> None:
        """Write a chunk of a streamed reply, after the first one, without passing through ASGI."""
        self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this is not an HTTP request")

    @property
    def _has_cycle(self) -> bool:
        """Is a request being read or answered?"""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _num_left(self) -> int:
        """Bytes that the client has not taken: in this process, and in the operating system."""
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
        """Write an answer directly, because there is no request that the application could answer."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self._has_cycle and not self._is_in_body:  # within a reply
            self.transport.abort()
            return
        if self._has_cycle:
            self.cycle.disconnected = True  # so that the application does not answer as well
        body = encoded(Refusal(status, message).document)
        head = (f"HTTP/1.1 {status} Refused", "content-type: application/json", "connection: close")
        lines = "\r\n".join((*head, f"content-length: {len(body)}", "", ""))
        self.transport.write(lines.encode() + body)
        self.transport.close()
