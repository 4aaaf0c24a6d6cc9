"""Api: the names of the APIs of language model servers; ServerProtocol: the interface for one of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pagedbench.loadgen.protocols.events import Framing

if TYPE_CHECKING:
    from pagedbench.request import SamplingParams

Document = dict[str, Any]

FAILED_ENDS = ("abort", "error")
"""Finish reasons of replies that are not complete."""


class Api(StrEnum):
    """The kinds of servers' APIs."""

    OPENAI = "openai"
    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMACPP = "llamacpp"
    TGI = "tgi"
    OLLAMA = "ollama"


@dataclass(frozen=True, slots=True)
class Query:
    """One request in the server's terms.

    Attributes:
        model: the model's name on the server.
        prompt: token ids if the server takes them, otherwise text.
        sampling: how the one sample is decoded; the length is forced if the server can.
        wants_token_ids: return the reply's token ids too.
        caches_prompt: may the server reuse cached parts of the prompt, if requests decide that?
        cache_salt: prompts with different salts do not share cached blocks; None: none is sent.
        max_len: the longest prompt and output of the run; None: not known.
    """

    model: str
    prompt: tuple[int, ...] | str
    sampling: SamplingParams
    wants_token_ids: bool = False
    caches_prompt: bool = False
    cache_salt: str | None = None
    max_len: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event of a streamed reply says.

    Attributes:
        text: new text of the reply, or all of it so far where the protocol is cumulative. None: the event
            does not belong to the reply's text, such as the counts at its end.
        brings_tokens: does it bring tokens? None: judge by its counts or, without counts, by its text.
        token_ids: ids of the tokens that it brings.
        output_len: tokens of the reply so far, by the server's count.
        prompt_len, num_cached: tokens of the prompt, and those of them that the server's cache held.
        is_last: the reply is complete.
        error: what the server says went wrong.
    """

    text: str | None = None
    brings_tokens: bool | None = None
    token_ids: tuple[int, ...] | None = None
    output_len: int | None = None
    prompt_len: int | None = None
    num_cached: int | None = None
    is_last: bool = False
    error: str | None = None


class ServerProtocol(Protocol):
    """A request as a JSON body, and the meaning of an event of the reply."""

    api: ClassVar[Api]
    path: ClassVar[str]  # appended to the base URL
    framing: ClassVar[Framing] = Framing.EVENTS
    takes_token_ids: ClassVar[bool] = True
    forces_lengths: ClassVar[bool] = True
    is_cumulative: ClassVar[bool] = False
    counts_chunks: ClassVar[bool] = False  # does `output_len` come with every chunk, or only at the end?

    def body(self, query: Query) -> Document:
        """The request."""
        ...

    def chunk(self, document: Document) -> Chunk:
        """The chunk in one event that is not an error (see `error_of`).

        Raises:
            KeyError, TypeError, ValueError, IndexError, AttributeError: the event is not of this API.
        """
        ...


def failed_end(reason: object) -> str | None:
    """What went wrong, by the finish reason that a server gives for a reply; None: nothing."""
    kind = reason.get("type") if isinstance(reason, dict) else reason
    if kind not in FAILED_ENDS:
        return None
    message = reason.get("message") if isinstance(reason, dict) else None
    return " ".join(f"the reply ended with {kind}: {message or ''}".split()).rstrip(":")[:300]


def error_of(document: Document) -> str | None:
    """The message of an error event, in any of the usual shapes; None if it is not one."""
    found = document.get("error")
    if found is None and document.get("object") == "error":
        found = document
    if found is None:
        return None
    message = found.get("message", found) if isinstance(found, dict) else found
    return " ".join(str(message).split())[:300]


def count_of(document: Document, name: str) -> int | None:
    """A whole number in a document; None if it is missing or null."""
    value = document.get(name)
    return None if value is None else int(value)
