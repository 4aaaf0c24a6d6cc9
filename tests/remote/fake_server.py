"""A server of each API, in a thread: it replies at once, with tokens that are made up."""

from __future__ import annotations

import json
import math
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from pagedbench.loadgen.protocols.api import Api

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "tiny"
METRICS = """# HELP vllm:num_requests_running Running.
vllm:num_requests_running{engine="0",model_name="tiny"} 2.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:num_preemptions_total{engine="0",model_name="tiny"} 3.0
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="100"} 1.0
"""


@dataclass
class FakeServer:
    """What a test wants of the server, and what the server was asked.

    Attributes:
        stop_at: replies end after so many tokens, whatever was asked; None: at their length.
        tokens_per_chunk: of the OpenAI-like APIs.
        status: of every reply to a request for tokens.
        error_after: chunks after which the stream has an error; None: never.
        key: that a client must show; None: none.
        owner: of its model; None: the usual.
        serves: requests after which every other is refused; None: never.
        metrics: of `/metrics`; None: there are none.
    """

    api: Api
    stop_at: int | None = None
    tokens_per_chunk: int = 1
    status: int = 200
    error_after: int | None = None
    key: str | None = None
    owner: str | None = None
    serves: int | None = None
    metrics: str | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    base_url: str = ""
    num_flushes: int = 0

    def page(self, path: str) -> dict[str, Any] | None:
        """What the program of this API says of itself."""
        owner = self.owner or ("vllm" if self.api is Api.VLLM else "somebody")
        listed = {"data": [{"id": MODEL, "owned_by": owner, "max_model_len": 512}]}
        pages: dict[Api, dict[str, dict[str, Any]]] = {
            Api.OPENAI: {"/v1/models": listed},
            Api.VLLM: {"/v1/models": listed, "/version": {"version": "0.99"}},
            Api.SGLANG: {"/get_model_info": {"model_path": MODEL}},
            Api.LLAMACPP: {"/props": {"default_generation_settings": {"n_ctx": 512}, "model_path": MODEL}},
            Api.TGI: {"/info": {"model_id": MODEL, "max_total_tokens": 512, "version": "3"}},
            Api.OLLAMA: {"/api/tags": {"models": [{"name": MODEL}]}},
        }
        return pages[self.api].get(path)

    def reply(self, body: dict[str, Any]) -> Iterator[bytes]:
        """The stream."""
        asked = next(_find(body, ("max_tokens", "max_new_tokens", "n_predict", "num_predict")))
        number = min(asked, self.stop_at or asked)
        prompt = next(_find(body, ("prompt", "input_ids", "text", "inputs")))
        prompt_len = len(prompt.split()) if isinstance(prompt, str) else len(prompt)
        for index, document in enumerate(self._documents(number, prompt_len)):
            if index == self.error_after:
                document = {"error": {"message": "out of memory"}}
            text = json.dumps(document)
            yield f"{text}\n".encode() if self.api is Api.OLLAMA else f"data: {text}\n\n".encode()
        if self.api in (Api.OPENAI, Api.VLLM, Api.SGLANG):
            yield b"data: [DONE]\n\n"

    def _documents(self, number: int, prompt_len: int) -> Iterator[dict[str, Any]]:
        step = self.tokens_per_chunk
        for done in range(step, number + step, step):
            yield self._document(min(done, number), number, prompt_len)
        if self.api in (Api.OPENAI, Api.VLLM):
            yield {"choices": [], "usage": {"prompt_tokens": prompt_len, "completion_tokens": number}}
        if self.api is Api.LLAMACPP:
            counts = {"tokens_predicted": number, "tokens_evaluated": prompt_len}
            yield {"content": "", "stop": True, **counts}
        if self.api is Api.OLLAMA:
            counts = {"eval_count": number, "prompt_eval_count": prompt_len}
            yield {"response": "", "done": True, **counts}

    def _document(self, done: int, number: int, prompt_len: int) -> dict[str, Any]:
        word, is_last = f" w{done}", done == number
        if self.api is Api.SGLANG:
            counts = {"prompt_tokens": prompt_len, "completion_tokens": done, "cached_tokens": 2}
            reason = {"type": "length"} if is_last else None
            text = "".join(f" w{index}" for index in range(1, done + 1))
            return {"text": text, "meta_info": {"finish_reason": reason, **counts}}
        if self.api is Api.LLAMACPP:
            counts = {"tokens_predicted": done, "tokens_evaluated": prompt_len}
            return {"content": word, "stop": False, **counts}
        if self.api is Api.TGI:
            details = {"generated_tokens": number, "input_length": prompt_len}
            return {
                "token": {"id": done, "text": word, "special": False},
                "generated_text": "all" if is_last else None,
                "details": details if is_last else None,
            }
        if self.api is Api.OLLAMA:
            return {"response": word, "done": False}
        return {"choices": [{"index": 0, "text": word, "finish_reason": "length" if is_last else None}]}


def _find(document: object, names: tuple[str, ...]) -> Iterator[Any]:
    """Values under any of these names, at any depth."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name in names:
                yield value
            yield from _find(value, names)


@contextmanager
def serving(fake: FakeServer) -> Iterator[FakeServer]:
    """Serve on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def _is_welcome(self) -> bool:
            if fake.key is None or self.headers.get("Authorization") == f"Bearer {fake.key}":
                return True
            self._send(401, b'{"error": "no key"}')
            return False

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            if not self._is_welcome():
                return
            if self.path == "/metrics" and fake.metrics is not None:
                self._send(200, fake.metrics.encode())
                return
            page = fake.page(self.path)
            self._send(404 if page is None else 200, json.dumps(page or {}).encode())

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not self._is_welcome():
                return
            if self.path == "/flush_cache":
                fake.num_flushes += 1
                self._send(200, b"Cache flushed.")
                return
            body = json.loads(content)
            fake.asked.append(body)
            if fake.status != 200 or len(fake.asked) > (fake.serves or math.inf):
                message = f"no such thing for {self.headers.get('Authorization')}"
                status = fake.status if fake.status != 200 else 500
                self._send(status, json.dumps({"error": {"message": message}}).encode())
                return
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in fake.reply(body):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    fake.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
