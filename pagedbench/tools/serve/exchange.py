"""Bodies of requests, and the messages of replies."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from pagedbench.tools.serve.documents import encoded
from pagedbench.tools.serve.refusal import Refusal

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Send

MAX_BODY = 4 * 2**20
"""Bytes of a request's body."""

MAX_DISCARDED = 64 * 2**20
"""Bytes of a body that is too large which are read, so that its sender gets to read the refusal."""

BODY_SECONDS = 30.0
"""Seconds in which a body must come."""


async def body_of(receive: Receive) -> bytes:
    """The whole body of a request.

    Raises:
        Refusal: it is too long, or does not come.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body, size = bytearray(), 0
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, "the client has gone")
                piece = message.get("body", b"")
                size += len(piece)
                if size <= MAX_BODY:
                    body += piece
                if not message.get("more_body", False) or size > MAX_DISCARDED:
                    break
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {BODY_SECONDS:g} seconds", closes=True) from None
    if size > MAX_BODY:
        raise Refusal(413, f"the body has more than {MAX_BODY} bytes", closes=size > MAX_DISCARDED)
    return bytes(body)


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
