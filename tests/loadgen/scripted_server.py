"""A server in a thread that answers each request as its path says, byte for byte, to test clients."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import sleep
from typing import TYPE_CHECKING

from pagedbench.loadgen.target import Target, reach

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from io import BufferedReader

    from pagedbench.loadgen.target import Reached

RESET = b"<reset>"
CLOSE = b"<close>"
SILENCE = b"<silence>"


def payload(path: str, body: bytes = b"") -> bytes:
    return f"POST /{path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class ScriptedServer:
    """Answers `POST /name` with the pieces of `scripts[name]`, each in a write of its own.

    A piece RESET cuts the connection off, CLOSE ends it, SILENCE keeps it without a word.
    """

    scripts: dict[str, list[bytes]]
    context: ssl.SSLContext | None = None
    pause: float = 0.0
    seen: list[str] = field(default_factory=list)
    num_connections: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def serve(self) -> Iterator[Reached]:
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            port = listener.getsockname()[1]
            try:
                yield reach(Target("127.0.0.1", port, is_tls=self.context is not None, is_verified=False))
            finally:
                self.over.set()
                listener.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.num_connections += 1
                threading.Thread(target=self._attend, args=(client,), daemon=True).start()

    def _attend(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            if self.context is not None:
                client = self.context.wrap_socket(client, server_side=True)
            with client, client.makefile("rb") as reader:
                while line := reader.readline():
                    name = line.split()[1].decode().lstrip("/")
                    self._read_rest(reader)
                    self.seen.append(name)
                    if not self._answer(client, self.scripts[name]):
                        return

    def _read_rest(self, reader: BufferedReader) -> None:
        length = 0
        while (line := reader.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        reader.read(length)

    def _answer(self, client: socket.socket, pieces: list[bytes]) -> bool:
        for piece in pieces:
            if piece == RESET:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                return False
            if piece == CLOSE:
                return False
            if piece == SILENCE:
                self.over.wait()
                return False
            client.sendall(piece)
            sleep(self.pause)
        return True
