"""Bodies of requests, and the messages of replies."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pagedbench.tools.serve.documents import encoded
from pagedbench.tools.serve.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Message, Receive, Send

MAX_BODY = 4 * 2**20
"""The most bytes in a request's body."""

MAX_BODIES = 64 * 2**20
"""The most bytes of all bodies that are in memory at the same time."""

MAX_DISCARDED = 64 * 2**20
"""Up to this many bytes of a body that is too large are read, so that its sender reads the refusal."""

BODY_SECONDS = 30.0
"""Seconds in which a body must arrive."""


class Bodies:
    """Reads bodies. There is a limit on the total of those that are in memory at the same time.

    Attributes:
        num_bytes: the total of the bodies in memory.
    """

    def __init__(self) -> None:
        self.num_bytes = 0

    @asynccontextmanager
    async def read(self, receive: Receive) -> AsyncIterator[bytes]:
        """Within the block, the whole body of a request.

        Raises:
            Refusal: it is too long, or does not arrive, or there are too many others.
        """
        body = bytearray()
        try:
            await self._fill(body, receive)
            yield bytes(body)
        finally:
            self.num_bytes -= len(body)
            body.clear()  # a refusal's traceback keeps this frame until the next garbage collection

    async def discard(self, receive: Receive) -> None:
        """Read a body without keeping it. Raises the errors of `read`."""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for _ in _pieces(receive):
                    pass
        except TimeoutError:
            raise _late_body() from None

    async def _fill(self, body: bytearray, receive: Receive) -> None:
        problem: Refusal | None = None  # a refused body is read to its end nevertheless
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for piece in _pieces(receive):
                    problem = problem or self._problem_with(len(body) + len(piece), len(piece))
                    if problem is None:
                        body += piece
                        self.num_bytes += len(piece)
        except TimeoutError:
            raise _late_body() from None
        if problem is not None:
            raise problem

    def _problem_with(self, size: int, more: int) -> Refusal | None:
        if size > MAX_BODY:
            return Refusal(413, f"the body has more than {MAX_BODY} bytes")
        if self.num_bytes + more > MAX_BODIES:
            return Refusal(503, "too many large requests at once", headers=(("retry-after", "1"),))
        return None


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    """The pieces of a body. Raises Refusal: the client has gone, or the body does not end."""
    size, has_more = 0, True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "the client has gone")
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > MAX_DISCARDED:
            raise Refusal(413, f"the body has more than {MAX_BODY} bytes", closes=True)
        has_more = message.get("more_body", False)
        yield piece


def _late_body() -> Refusal:
    return Refusal(408, f"the body did not come within {BODY_SECONDS:g} seconds", closes=True)


def document_of(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refusal(400, f"the body is not JSON: {reason}") from None


async def refused(refusal: Refusal, send: Send) -> None:
    """Answer with an error."""
    closing = (("connection", "close"),) if refusal.closes else ()
    for message in response(refusal.status, encoded(refusal.document), (*refusal.headers, *closing)):
        await send(message)


def response(
    status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()
) -> tuple[Message, Message]:
    length = (("content-length", str(len(body))),)
    return start(status, "application/json", (*length, *headers)), part(body, is_last=True)


def start(status: int, kind: str, headers: tuple[tuple[str, str], ...]) -> Message:
    pairs = [(name.encode(), value.encode()) for name, value in (("content-type", kind), *headers)]
    return {"type": "http.response.start", "status": status, "headers": pairs}


def part(body: bytes, *, is_last: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": not is_last}
