"""Bodies of requests in memory."""

from __future__ import annotations

import asyncio
import traceback

import pytest

from pagedbench.tools.serve.exchange import MAX_BODY, Bodies
from pagedbench.tools.serve.refusal import Refusal


def test_a_refused_body_leaves_memory_before_its_refusal() -> None:
    """A caught refusal is in a cycle with its frames, which only the garbage collector ends."""
    bodies = Bodies()
    pieces = [b"x" * MAX_BODY, b"x", b""]

    async def receive() -> dict[str, object]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def read() -> None:
        async with bodies.read(receive):
            pass

    with pytest.raises(Refusal, match="the body has more than") as caught:
        asyncio.run(read())
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    kept = [value for frame in frames for value in frame.f_locals.values() if isinstance(value, bytearray)]
    assert kept
    assert not any(kept)
    assert bodies.num_bytes == 0
