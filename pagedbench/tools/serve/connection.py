"""Connection: uvicorn's HTTP protocol with limits for clients who send slowly, or too much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pagedbench.tools.serve.documents import encoded
from pagedbench.tools.serve.refusal import Refusal

if TYPE_CHECKING:
    import asyncio

HEADER_SECONDS = 10.0
"""Seconds in which the head of a request must come, counted from the connection or from its first byte."""

STALL_SECONDS = 60.0
"""Seconds in which a client must take something of what was sent."""

MAX_HEAD = 64 * 2**10
"""Bytes of the head of a request."""

RECEIVED = "received"
"""In the state of a request's scope: when all of it had come, by the clock of the event loop."""


class Connection(HttpToolsProtocol):
    """One connection. A head that is late or too long closes it."""

    _deadline: asyncio.TimerHandle | None = None
    _head_len = 0
    _num_unsent = 0  # bytes that the client had not taken when it was last looked at
    _taken_time = 0.0  # when it was seen to take something, or to have all

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deadline is not None:
            self._head_len += len(data)
            if self._head_len > MAX_HEAD and b"\r\n\r\n" not in data:
                self._refuse(431, f"the head of the request has more than {MAX_HEAD} bytes")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        if self._deadline is None:
            self._expect_head()
        super().on_message_begin()

    def check_reader(self) -> None:
        """Disconnect a client that has taken nothing for too long of what was sent; called every second."""
        num_unsent, now = self.transport.get_write_buffer_size(), self.loop.time()
        if not num_unsent or num_unsent < self._num_unsent:
            self._taken_time = now
        elif now - self._taken_time > STALL_SECONDS:
            self.transport.abort()
        self._num_unsent = num_unsent

    def on_headers_complete(self) -> None:
        self._has_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note when the last byte of the request had come: latencies count from here."""
        self.scope["state"][RECEIVED] = self.loop.time()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this is not an HTTP request")

    def _expect_head(self) -> None:
        self._head_len = 0
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._is_late)

    def _has_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_late(self) -> None:
        self._refuse(408, f"the head of the request did not come within {HEADER_SECONDS:g} seconds")

    def _refuse(self, status: int, message: str) -> None:
        """Answer by hand: there is no request that the application could answer."""
        self._has_head()
        if self.transport.is_closing():
            return
        body = encoded(Refusal(status, message).document)
        head = (f"HTTP/1.1 {status} Refused", "content-type: application/json", "connection: close")
        lines = "\r\n".join((*head, f"content-length: {len(body)}", "", ""))
        self.transport.write(lines.encode() + body)
        self.transport.close()
