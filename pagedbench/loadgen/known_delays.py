"""A server with known delays: it answers at requested times, and reports when it did.

It takes requests of OpenAI's completions API, as load generators send them, and streams words. A request
may ask for its own delays in the field `known_delays`; others get those that the server was started with.
`GET /times` returns when requests arrived and replies began, for clients that do not read the words.
Its purpose is to measure load generators; it computes nothing.
"""

from __future__ import annotations

import argparse
import heapq
import json
import select
import socket
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pagedbench.errors import ConfigError
from pagedbench.loadgen.children import start_python
from pagedbench.loadgen.waiting import sharpen_timers, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_REQUEST = 1 << 24
MODEL = "known-delays"

STREAM_HEADER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)  # fmt: skip
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Delays:
    """The delays of a reply.

    Attributes:
        ttft: seconds from the request's last byte to the first word.
        gap: seconds between two words.
    """

    ttft: float
    gap: float
    num_tokens: int


@dataclass(slots=True)
class _Client:
    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class _Reply:
    """A stream under way. `arrived`: when the request's last byte had come."""

    client: _Client
    delays: Delays
    arrived: float
    num_prompt_tokens: int
    has_usage: bool
    num_sent: int = 0

    @property
    def due(self) -> float:
        return self.arrived + self.delays.ttft + self.num_sent * self.delays.gap


class _Server:
    """The server. `owner`: a file descriptor; the server ends when its other end is closed."""

    def __init__(self, listener: socket.socket, default: Delays, owner: int | None) -> None:
        self._listener, self._default = listener, default
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._owner = owner
        if owner is not None:
            self._epoll.register(owner, select.EPOLLIN)
        self._clients: dict[int, _Client] = {}
        self._due: list[tuple[float, int, _Reply]] = []
        self._num_pushed = 0
        self._times: list[tuple[float, float]] = []  # of each reply: the request's arrival, the first word

    def serve(self) -> None:
        while True:
            self._write_due()
            for fd, mask in self._wait():
                if fd == self._listener.fileno():
                    self._accept()
                elif fd == self._owner:
                    return
                elif (client := self._clients.get(fd)) is not None:
                    self._attend(fd, client, mask)
                self._write_due()

    def _wait(self) -> list[tuple[int, int]]:
        return wait(self._epoll, self._due[0][0] - time.monotonic() if self._due else 1.0)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:  # no client waits any more, or no socket is left
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients[accepted.fileno()] = _Client(accepted)
            self._epoll.register(accepted.fileno(), select.EPOLLIN)

    def _attend(self, fd: int, client: _Client, mask: int) -> None:
        try:
            if mask & select.EPOLLOUT:
                self._write(client, b"")
            data = client.socket.recv(1 << 18) if mask & ~select.EPOLLOUT else None
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            client.received += data
            self._take_requests(client, time.monotonic())
        if data == b"" or len(client.received) > MAX_REQUEST:
            del self._clients[fd]
            client.socket.close()

    def _take_requests(self, client: _Client, arrived: float) -> None:
        while (end := client.received.find(b"\r\n\r\n")) >= 0:
            head = bytes(client.received[:end])
            length = _content_length(head)
            if len(client.received) < end + 4 + length:
                return
            body = bytes(client.received[end + 4 : end + 4 + length])
            del client.received[: end + 4 + length]
            self._answer(client, head, body, arrived)

    def _answer(self, client: _Client, head: bytes, body: bytes, arrived: float) -> None:
        try:
            method, path, *_ = head.split(b" ", 2)
            if method == b"GET":
                self._write(client, _whole(200, self._document(path)))
                return
            asked = json.loads(body)
            delays = self._delays(asked)
            prompt = asked["prompt"]
            num_prompt_tokens = len(prompt if isinstance(prompt, list) else prompt.split())
            has_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        except (ValueError, KeyError, TypeError, AttributeError):
            self._write(client, _whole(400, {"error": {"message": "not a request of completions"}}))
            return
        self._push(_Reply(client, delays, arrived, num_prompt_tokens, has_usage))

    def _document(self, path: bytes) -> dict[str, Any]:
        if path.endswith(b"/models"):
            return {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
        return {"times": self._times} if path.endswith(b"/times") else {}

    def _delays(self, asked: dict[str, Any]) -> Delays:
        own = asked.get("known_delays", {})
        default = self._default
        ttft, gap = float(own.get("ttft", default.ttft)), float(own.get("gap", default.gap))
        return Delays(ttft, gap, max(int(asked.get("max_tokens") or default.num_tokens), 1))

    def _push(self, reply: _Reply) -> None:
        heapq.heappush(self._due, (reply.due, self._num_pushed, reply))
        self._num_pushed += 1

    def _write_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, _, reply = heapq.heappop(self._due)
            if reply.client.socket.fileno() >= 0:
                self._write_word(reply)

    def _write_word(self, reply: _Reply) -> None:
        number, total = reply.num_sent, reply.delays.num_tokens
        now = time.monotonic()
        if number == 0:
            self._times.append((reply.arrived, now))
        reply.num_sent += 1
        is_last = reply.num_sent == total
        word = _chunk(
            b'{"id":"cmpl-0","object":"text_completion","model":"known-delays","choices":[{"index":0,'
            b'"text":" word","finish_reason":%s}],"times":[%.7f,%.7f]}'
            % (b'"length"' if is_last else b"null", reply.arrived, now)
        )
        before = STREAM_HEADER if number == 0 else b""
        self._write(reply.client, before + word + (self._ending(reply) if is_last else b""))
        if not is_last:
            self._push(reply)

    def _ending(self, reply: _Reply) -> bytes:
        usage = b""
        if reply.has_usage:
            prompt, output = reply.num_prompt_tokens, reply.delays.num_tokens
            usage = _chunk(
                b'{"id":"cmpl-0","object":"text_completion","model":"known-delays","choices":[],"usage":'
                b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}'
                % (prompt, output, prompt + output)
            )
        return usage + _chunk(b"[DONE]") + LAST_CHUNK

    def _write(self, client: _Client, data: bytes) -> None:
        """Write what the socket takes, and the rest when it takes more."""
        was_waiting = bool(client.unsent)
        client.unsent += data
        try:
            sent = client.socket.send(client.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the client has gone, which the next `recv` also reports
        del client.unsent[:sent]
        if bool(client.unsent) != was_waiting:
            events = select.EPOLLIN | (0 if was_waiting else select.EPOLLOUT)
            self._epoll.modify(client.socket.fileno(), events)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return 0


def _chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


def _whole(status: int, document: dict[str, Any]) -> bytes:
    body = json.dumps(document).encode()
    reason = b"OK" if status == 200 else b"Bad Request"
    head = b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, reason, len(body)) + body


@contextmanager
def known_delays(delays: Delays) -> Iterator[int]:
    """Within the block, such a server runs in a process on this machine. Yields its port."""
    arguments = ["--ttft", str(delays.ttft), "--gap", str(delays.gap), "--owned"]
    arguments += ["--num-tokens", str(delays.num_tokens)]
    script = "from pagedbench.loadgen.known_delays import main; main()"
    with start_python(script, arguments, with_pipes=True) as process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline()
            if not port:
                raise ConfigError("the server of known delays could not be started")
            yield int(port)
        finally:
            process.kill()


def main() -> None:
    """Serve until the end of the process; the port is printed first."""
    import gc
    import resource

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft", type=float, default=0.01)
    parser.add_argument("--gap", type=float, default=0.005)
    parser.add_argument("--num-tokens", type=int, default=6)
    parser.add_argument("--owned", action="store_true", help="end when stdin does")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.create_server(("127.0.0.1", options.port), backlog=4096)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    sharpen_timers()
    gc.collect()
    gc.disable()
    owner = sys.stdin.fileno() if options.owned else None
    _Server(listener, Delays(options.ttft, options.gap, options.num_tokens), owner).serve()


if __name__ == "__main__":
    main()
