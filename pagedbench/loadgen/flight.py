"""Flight: a call under way, and the parser that finds the end of its reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from pagedbench.loadgen.wire import Failure

if TYPE_CHECKING:
    from pagedbench.loadgen.connection import Connection
    from pagedbench.loadgen.wire import Call, Exchange

OK = 200
FIRST_FINAL = 200
"""Status codes below this announce another reply."""


class Flight:
    """A call from the time at which it was due to the end of its reply.

    Attributes:
        connection: its connection; None while it waits for one.
        rest: the part of the payload that the socket has not taken yet.
        is_complete: has the reply ended?
        keeps_alive: may the connection be used for another call afterwards?
    """

    __slots__ = ("_ends_by_close", "_has_framing", "_parser", "_parts", "call", "connection", "exchange",
                 "is_complete", "keeps_alive", "rest")  # fmt: skip

    def __init__(self, call: Call, exchange: Exchange) -> None:
        self.call, self.exchange = call, exchange
        self.connection: Connection | None = None
        self.rest: memoryview | None = None
        self.is_complete, self.keeps_alive = False, False
        self._parser = HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._has_framing = self._ends_by_close = False

    def feed(self, data: bytes, time: float) -> None:
        """Parse what `recv` returned at `time`. A reply that is not HTTP becomes a failure."""
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.is_complete:
                self.exchange.failure = Failure.PROTOCOL
                self.exchange.detail = f"the reply is not HTTP/1.1: {error}"
            self.is_complete, self.keeps_alive = True, False
        parts = self._parts
        if parts:
            self.exchange.pieces.append((time, parts[0] if len(parts) == 1 else b"".join(parts)))
            self._parts = []

    def close(self) -> None:
        """Note that the server has closed the connection, which ends a reply without a stated length."""
        if not self._ends_by_close:
            self.exchange.failure = Failure.CONNECTION
            is_cut = self.exchange.status_code is not None
            self.exchange.detail = f"closed by the server {'in mid-reply' if is_cut else 'without a reply'}"
        self._complete()
        self.keeps_alive = False

    def release(self) -> None:
        """Drop the reply and the parser, which refers to this flight: nothing else breaks the cycle."""
        del self._parser, self.exchange
        self.rest, self._parts = None, []

    def _complete(self) -> None:
        exchange = self.exchange
        self.is_complete = True
        if exchange.failure is None and exchange.status_code != OK:
            exchange.failure, exchange.detail = Failure.STATUS, f"status {exchange.status_code}"

    # What the parser calls:

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_framing = True

    def on_headers_complete(self) -> None:
        if self.is_complete:
            return
        self.exchange.status_code = self._parser.get_status_code()
        self._ends_by_close = not self._has_framing and self.exchange.status_code >= FIRST_FINAL

    def on_body(self, data: bytes) -> None:
        if not self.is_complete:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        code = self.exchange.status_code
        if code is not None and code < FIRST_FINAL:
            self.exchange.status_code, self._has_framing = None, False
            return
        self.keeps_alive = not self.is_complete and self._parser.should_keep_alive()  # not of two replies
        if not self.is_complete:
            self._complete()
