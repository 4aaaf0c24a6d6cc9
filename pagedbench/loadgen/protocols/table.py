"""The table of protocols, and the encoding of requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pagedbench.loadgen.protocols.engines import LlamaCpp, Ollama, SgLang, Tgi
from pagedbench.loadgen.protocols.openai import OpenAi, Vllm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagedbench.loadgen.protocols.api import Api, Document, ServerProtocol

PROTOCOLS: dict[Api, ServerProtocol] = {
    protocol.api: protocol for protocol in (OpenAi(), Vllm(), SgLang(), LlamaCpp(), Tgi(), Ollama())
}


def encode(path: str, host: str, body: Document, headers: Mapping[str, str]) -> bytes:
    """The bytes of a POST request.

    Args:
        host: host and port for the header Host.
        headers: additional headers, such as an API key.
    """
    content = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    fields = {
        "Host": host,
        "Content-Type": "application/json",
        "Accept": "text/event-stream, application/json",
        "Content-Length": str(len(content)),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + content
