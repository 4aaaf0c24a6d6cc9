"""From what arrived at the socket to what the client of a language model observed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.loadgen.observation import Observation
from pagedbench.loadgen.protocols.api import Chunk, error_of
from pagedbench.loadgen.protocols.events import DONE, events_of
from pagedbench.loadgen.wire import Failure

if TYPE_CHECKING:
    from pagedbench.loadgen.protocols.api import ServerProtocol
    from pagedbench.loadgen.wire import Exchange

OK = 200
MAX_DETAIL_LEN = 300
NOT_OF_THE_API = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""Errors that `ServerProtocol.chunk` raises."""


def observe(exchange: Exchange, protocol: ServerProtocol) -> Observation:
    """One reply as its client saw it. If it broke off, what had arrived is kept."""
    failure, detail = exchange.failure, exchange.detail
    stream = _Stream(protocol)
    if exchange.status_code is not None and exchange.status_code != OK:
        failure, detail = Failure.STATUS, _status_detail(exchange)
    else:
        stream.read(exchange.pieces)
        if failure is None and (problem := stream.problem) is not None:
            failure, detail = Failure.PROTOCOL, problem
    return Observation(
        request_id=exchange.request_id,
        scheduled=exchange.scheduled,
        sent=exchange.sent,
        chunk_times=np.array(stream.times, dtype=np.float64),
        chunk_tokens=stream.chunk_tokens,
        finish=exchange.end if failure is not None or math.isnan(stream.finish) else stream.finish,
        prompt_len=stream.prompt_len,
        output_len=stream.output_len,
        num_cached=stream.num_cached,
        text=stream.text,
        token_ids=stream.token_ids,
        failure=failure,
        detail=detail,
    )


def _status_detail(exchange: Exchange) -> str:
    """The status code, and what the server says about it."""
    body = b"".join(piece for _, piece in exchange.pieces).decode("utf-8", "replace")
    try:
        document = json.loads(body)
        message = error_of(document) or str(document.get("detail") or document.get("message") or body)
    except (ValueError, AttributeError):
        message = body
    return f"status {exchange.status_code}: {' '.join(message.split())}"[:MAX_DETAIL_LEN].rstrip(": ")


@dataclass(slots=True)
class _Stream:
    """A reply, built from its events one by one."""

    protocol: ServerProtocol
    times: list[float] = field(default_factory=list)  # of chunks that brought tokens
    finish: float = math.nan
    output_len: int | None = None
    prompt_len: int | None = None
    num_cached: int | None = None
    problem: str | None = None
    _texts: list[str] = field(default_factory=list)
    _counts: list[int | None] = field(default_factory=list)  # tokens of each chunk in `times`
    _ids: list[int] = field(default_factory=list)
    _has_all_ids: bool = True
    _num_counted: int = 0  # tokens that the server had counted before this chunk
    _is_whole: bool = False

    @property
    def text(self) -> str:
        return self._texts[-1] if self.protocol.is_cumulative and self._texts else "".join(self._texts)

    @property
    def chunk_tokens(self) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
        """Tokens in each chunk that brought any; None if one does not say.  # [num_chunks]"""
        known = [count for count in self._counts if count is not None]
        return np.array(known, dtype=np.int64) if len(known) == len(self._counts) else None

    @property
    def token_ids(self) -> tuple[int, ...] | None:
        is_whole = self.output_len in (None, len(self._ids))  # llama.cpp leaves some out
        return tuple(self._ids) if self._has_all_ids and self._ids and is_whole else None

    def read(self, pieces: list[tuple[float, bytes]]) -> None:
        """Take in all events, up to the first error."""
        for event in events_of(pieces, self.protocol.framing):
            if event.data == DONE:
                self._is_whole = True
                continue
            try:
                document = json.loads(event.data)
                error = error_of(document)
                chunk = self.protocol.chunk(document) if error is None else Chunk(error=error)
            except NOT_OF_THE_API:
                self.problem = f"an event that is not of the API {self.protocol.api}: {event.data[:100]}"
                return
            if chunk.error is not None:
                self.problem = f"an error in the stream: {chunk.error}"[:MAX_DETAIL_LEN]
                return
            self._take_in(chunk, event.time)
        if not self._is_whole:
            self.problem = "the stream ended before the reply did"

    def _take_in(self, chunk: Chunk, time: float) -> None:
        if chunk.prompt_len is not None:
            self.prompt_len = chunk.prompt_len
        if chunk.num_cached is not None:
            self.num_cached = chunk.num_cached
        if chunk.output_len is not None:
            self.output_len = chunk.output_len
        self._is_whole |= chunk.is_last
        if chunk.text is None:
            return
        self.finish = time
        self._texts.append(chunk.text)
        if self._brings_tokens(chunk):
            self.times.append(time)
            self._counts.append(self._number(chunk))
            self._has_all_ids &= chunk.token_ids is not None
        self._ids += chunk.token_ids or ()
        self._num_counted = chunk.output_len or self._num_counted

    def _brings_tokens(self, chunk: Chunk) -> bool:
        """Does it bring tokens, by its own word, by the server's count, or by its text?"""
        if chunk.brings_tokens is not None:
            return chunk.brings_tokens
        if chunk.output_len is not None and self.protocol.counts_chunks:
            return chunk.output_len > self._num_counted
        return bool(chunk.text)

    def _number(self, chunk: Chunk) -> int | None:
        if chunk.output_len is not None and self.protocol.counts_chunks:
            return chunk.output_len - self._num_counted
        return None if chunk.token_ids is None else len(chunk.token_ids)
