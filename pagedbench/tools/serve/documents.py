"""The documents of a reply: whole ones, and the chunks of a stream, in OpenAI's form."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.tools.serve.choice import Choice, Piece

DONE = b"data: [DONE]\n\n"


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def encoded(document: object) -> bytes:
    """A document as the body of a reply."""
    return _ENCODER.encode(document).encode("utf-8", "replace")


def event(document: object) -> bytes:
    """A document as one event of a stream."""
    return b"data: " + encoded(document) + b"\n\n"


def token_name(token: int) -> str:
    """The name of a token by its id, as with vLLM's `return_tokens_as_token_ids`."""
    return f"token_id:{token}"


@dataclass(slots=True)
class Usage:
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def document(self) -> dict[str, object]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


@dataclass(slots=True)
class Whole:
    """A reply that is sent in one document."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.token_ids += piece.token_ids
        self.logprobs += piece.logprobs


class Documents:
    """Builds the documents of one request, which share an id, a time and a model."""

    def __init__(
        self,
        model: str,
        *,
        is_chat: bool,
        has_logprobs: bool,
        returns_token_ids: bool,
        name_of: Callable[[int], str],
    ) -> None:
        """`name_of`: the name of a token, for its log-probability."""
        self._name_of = name_of
        self.id = f"{'chatcmpl' if is_chat else 'cmpl'}-{uuid.uuid4().hex}"
        self._model = model
        self._is_chat = is_chat
        self._has_logprobs = has_logprobs
        self._returns_token_ids = returns_token_ids
        self._created = int(time.time())
        kind = "chat.completion.chunk" if is_chat else "text_completion"
        # What all chunks begin with, up to the choices.
        self._chunk_start = b"data: " + encoded(self._head(kind))[:-1] + b',"choices":'

    def whole(
        self, replies: list[tuple[Choice, Whole, tuple[int, ...]]], usage: Usage
    ) -> dict[str, object]:
        """The document of a request that is not streamed. `replies`: each with the ids of its prompt."""
        kind = "chat.completion" if self._is_chat else "text_completion"
        choices = []
        for index, (choice, whole, prompt) in enumerate(replies):
            entry: dict[str, object] = {"index": index}
            if self._is_chat:
                entry["message"] = {"role": "assistant", "content": whole.text}
            else:
                entry["text"] = whole.text
            entry |= self._rest(whole.token_ids, whole.logprobs, choice)
            if self._returns_token_ids:
                entry["prompt_token_ids"] = list(prompt)
            choices.append(entry)
        return {**self._head(kind), "choices": choices, "usage": usage.document}

    def chunk(
        self,
        index: int,
        choice: Choice,
        piece: Piece,
        *,
        prompt: tuple[int, ...] | None,
        usage: Usage | None,
    ) -> bytes:
        """A chunk of one reply, as an event of its stream.

        Args:
            prompt: its token ids, in the first chunk; afterwards None.
            usage: the usage so far, if the client wants it in every chunk.
        """
        entry: dict[str, object] = {"index": index}
        if self._is_chat:
            entry["delta"] = ({} if prompt is None else {"role": "assistant"}) | {"content": piece.text}
        else:
            entry["text"] = piece.text
        entry |= self._rest(piece.token_ids, piece.logprobs, choice)
        if self._returns_token_ids and prompt is not None:
            entry["prompt_token_ids"] = list(prompt)
        return self._chunk([entry], usage)

    def usage_chunk(self, usage: Usage) -> bytes:
        """The last chunk of a stream with `include_usage`; it has no choices."""
        return self._chunk([], usage)

    def _chunk(self, choices: list[dict[str, object]], usage: Usage | None) -> bytes:
        more = b"" if usage is None else b',"usage":' + encoded(usage.document)
        return self._chunk_start + encoded(choices) + more + b"}\n\n"

    def _head(self, kind: str) -> dict[str, object]:
        return {"id": self.id, "object": kind, "created": self._created, "model": self._model}

    def _rest(self, token_ids: list[int], logprobs: list[float], choice: Choice) -> dict[str, object]:
        """The fields that whole documents and chunks have in common."""
        entry: dict[str, object] = {
            "logprobs": self._logprobs(token_ids, logprobs) if self._has_logprobs else None,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
        }
        if self._returns_token_ids:
            entry["token_ids"] = token_ids
        return entry

    def _logprobs(self, token_ids: list[int], logprobs: list[float]) -> dict[str, object]:
        """Log-probabilities of the chosen tokens."""
        names = [self._name_of(token) for token in token_ids]
        if self._is_chat:
            rows = zip(names, logprobs, strict=True)
            return {
                "content": [{"token": name, "logprob": value, "top_logprobs": []} for name, value in rows]
            }
        return {"tokens": names, "token_logprobs": logprobs, "top_logprobs": None, "text_offset": []}
