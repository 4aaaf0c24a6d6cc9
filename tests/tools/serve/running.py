"""A server within the test's process: its event loop has a thread, and clients are sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

from pagedbench.plan import make_plan
from pagedbench.tools.serve.command import Access
from pagedbench.tools.serve.server import open_socket
from pagedbench.tools.serve.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pagedbench.config import RunConfig
    from pagedbench.tools.serve.service import Served

PATIENCE = 20.0
"""Seconds after which a test that waits is a test that fails."""


class Running:
    """One server, and ways to ask it."""

    def __init__(
        self,
        config: RunConfig,
        *,
        max_queue: int = 1024,
        grace: float = PATIENCE,
        api_key: str | None = None,
        is_kept: bool = False,
        send_buffer: int = 0,
    ) -> None:
        self.service = Service(make_plan(config), "tiny", is_kept=is_kept)
        self.engine = self.service.engine
        self.served: Served | None = None
        opened = open_socket("127.0.0.1", 0)
        if send_buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.port: int = opened.getsockname()[1]
        access = Access("127.0.0.1", self.port, api_key, max_queue, grace)
        self._thread = threading.Thread(target=self._run, args=(opened, access))
        self._thread.start()
        self.wait_until(lambda: self._answers())

    def _run(self, opened: socket.socket, access: Access) -> None:
        self.served = self.service.run(opened, access)

    def _answers(self) -> bool:
        try:
            return self.get("/health")[0] == 200
        except OSError:
            return False

    def wait_until(self, is_so: Callable[[], object]) -> None:
        """Wait until something is true."""
        end = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.002)

    def stop(self) -> None:
        """As SIGTERM does."""
        lifetime = self.service.lifetime
        assert lifetime is not None
        if self.served is None:
            lifetime.loop.call_soon_threadsafe(lifetime.stop, SIGTERM)

    def join(self) -> Served:
        """Wait for the end."""
        self._thread.join(PATIENCE)
        assert self.served is not None, "the server did not end"
        return self.served

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        return self._ask("GET", path, None, headers)[:2]

    def post(
        self, document: Any, path: str = "/v1/completions", headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """The status, and the document of the reply."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        status, text, _ = self._ask("POST", path, body, headers)
        return status, json.loads(text)

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str] | None
    ) -> tuple[int, str, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return reply.status, reply.read().decode(), reply
        finally:
            connection.close()

    def events(self, document: dict[str, Any], path: str = "/v1/completions") -> list[Any]:
        """The documents of a whole stream, which must end as streams do."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("POST", path, json.dumps(document | {"stream": True}))
        reply = connection.getresponse()
        assert (reply.status, reply.getheader("content-type")) == (200, "text/event-stream")
        *events, done, rest = reply.read().decode().split("\n\n")
        connection.close()
        assert (done, rest) == ("data: [DONE]", "")
        return [json.loads(event.removeprefix("data: ")) for event in events]

    @contextmanager
    def connection(self, payload: bytes = b"", *, receive_buffer: int = 0) -> Iterator[socket.socket]:
        """A bare connection, on which something was sent."""
        with socket.socket() as client:
            if receive_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            client.settimeout(PATIENCE)
            client.connect(("127.0.0.1", self.port))
            client.sendall(payload)
            yield client

    def metric(self, name: str) -> float:
        """The value of a metric; of several lines with this beginning the sum."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(name)]
        assert lines, f"there is no metric {name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def read_reply(client: socket.socket) -> bytes:
    """Everything until the server closes."""
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def payload(document: dict[str, Any]) -> bytes:
    """A request for a completion, as bytes."""
    body = json.dumps(document).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: here\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextmanager
def running(config: RunConfig, **options: Any) -> Iterator[Running]:
    """A server that is stopped in the end, and then owns no block."""
    server = Running(config, **options)
    try:
        yield server
    finally:
        server.stop()
        server.join()
    assert server.engine.memory.num_owned == 0
    server.engine.memory.check_integrity()
