"""The life of a server: the socket, signals, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import threading
from typing import TYPE_CHECKING

import uvicorn

from pagedbench.config import ConfigError
from pagedbench.runs.signals import SIGNALS
from pagedbench.tools.serve.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pagedbench.tools.serve.app import Endpoint

BACKLOG = 4096
"""The most connections that wait to be accepted."""

CLOSING_SECONDS = 1.0
"""Seconds after the grace period for clients to take the errors that end their replies."""

WATCH_SECONDS = 1.0
"""Seconds between two checks of the engine, and of clients that take nothing."""

KEEP_ALIVE_SECONDS = 60


class _Server(uvicorn.Server):
    """Leaves signals to `Lifetime`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def open_socket(host: str, port: int) -> socket.socket:
    """Reserve the address before anything heavy is loaded. Clients wait until connections are accepted.

    Raises:
        ConfigError: it is not available.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context(socket.socket(family, kind, protocol))
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen(BACKLOG)
            stack.pop_all()  # it stays open
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    return opened


def allow_many_files() -> None:
    """Raise the limit of open files as far as this user may: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Lifetime:
    """Serves until a signal arrives, and then ends without breaking off replies that can be finished."""

    def __init__(self, endpoint: Endpoint, grace: float) -> None:
        """`grace`: seconds for running replies to end after the first signal."""
        self.received: signal.Signals | None = None
        self.loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._grace = grace
        config = uvicorn.Config(
            endpoint.app,
            http=Connection,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="critical",
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(grace + CLOSING_SECONDS) + 2,
        )
        self._server = _Server(config)
        endpoint.num_connections = lambda: len(self._server.server_state.connections)

    async def run(self, opened: socket.socket, announce: Callable[[], None]) -> None:
        """Accept and answer requests until a signal has arrived and the last reply has ended.

        `announce` is called once connections are accepted.
        """
        watch = asyncio.create_task(self._watch())
        with self._signals():
            serving = asyncio.create_task(self._server.serve([opened]))
            while not (self._server.started or serving.done()):
                await asyncio.sleep(0.01)
            if not serving.done():
                announce()
            await serving
        watch.cancel()

    def stop(self, number: signal.Signals) -> None:
        """The first call ends the service within the grace period, the second at once."""
        if self.received is not None:
            self._break_off()
            return
        self.received = number
        self._endpoint.is_closing = True
        self._server.should_exit = True
        self.loop.call_later(self._grace, self._break_off)

    def _break_off(self) -> None:
        """End replies with an error; clients that do not read it are disconnected."""
        self._endpoint.interrupt_all()
        self.loop.call_later(CLOSING_SECONDS, self._disconnect)

    def _disconnect(self) -> None:
        for connection in self._connections:
            connection.transport.abort()

    async def _watch(self) -> None:
        """End the service if the engine has crashed, and disconnect clients that take nothing."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._endpoint.engine.crash is not None and not self._server.should_exit:
                self._server.should_exit = True
                self._break_off()
            for connection in self._connections:
                connection.check_reader()

    @property
    def _connections(self) -> list[Connection]:
        found = self._server.server_state.connections
        return [connection for connection in found if isinstance(connection, Connection)]

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let signals end the service; the previous handlers are restored afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can handle signals
            return
        previous = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            self.loop.add_signal_handler(number, self.stop, number)
        try:
            yield
        finally:
            for number, handler in previous.items():
                self.loop.remove_signal_handler(number)
                signal.signal(number, handler)
