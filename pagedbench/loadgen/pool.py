"""Pool: connections that are kept open between calls, and opened before a call is due."""

from __future__ import annotations

import errno
import select
import time
from typing import TYPE_CHECKING

from pagedbench.loadgen.connection import Connection, tls_context

if TYPE_CHECKING:
    from pagedbench.loadgen.target import Reached

MAX_IDLE_TIME = 2.0
"""Seconds after which an idle connection is not reused: common servers close theirs after five."""

NO_SOCKET_LEFT = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL)


class Pool:
    """The connections of one worker.

    Args:
        limit: the largest number of open sockets.

    Attributes:
        by_fd: all connections by file descriptor.
        num_opening: connections that are not ready yet.
        problem: why the last connection could not be opened.
        num_opened: connections opened so far.
        was_full: did the limit keep a connection from being opened?
    """

    def __init__(self, reached: Reached, epoll: select.epoll, limit: int) -> None:
        self._reached, self._epoll, self._limit = reached, epoll, limit
        self._context = tls_context(reached.target) if reached.target.is_tls else None
        self._idle: list[Connection] = []  # the one used last at the end
        self.by_fd: dict[int, Connection] = {}
        self.num_opening = self.num_opened = 0
        self.problem = ""
        self.was_full = False

    @property
    def num_available(self) -> int:
        """Connections that are idle, or will be soon."""
        return len(self._idle) + self.num_opening

    def provide(self, number: int) -> None:
        """Begin to open connections, so that `number` are idle soon, as far as the limit allows."""
        while self._idle and time.monotonic() - self._idle[0].idle_since > MAX_IDLE_TIME:
            self.drop(self._idle[0])
        while self.num_available < number and self._open():
            pass

    def _open(self) -> bool:
        if len(self.by_fd) >= self._limit:
            self.was_full = True
            return False
        try:
            connection = Connection(self._reached, self._context)
        except OSError as error:
            self.was_full = self.was_full or error.errno in NO_SOCKET_LEFT
            self.problem = error.strerror or str(error)
            return False
        self.by_fd[connection.fd] = connection
        self._epoll.register(connection.fd, select.EPOLLOUT)
        self.num_opening += 1
        self.num_opened += 1
        return True

    def advance(self, connection: Connection) -> None:
        """Continue opening a connection after an event of its socket; a ready one becomes idle."""
        had_to_write = connection.wants_write
        try:
            connection.advance()
        except OSError as error:
            self.problem = error.strerror or str(error)
            self.drop(connection)
            return
        if connection.wants_write != had_to_write:
            self.watch(connection, writing=connection.wants_write)
        if connection.is_open:
            self.num_opening -= 1
            self.give_back(connection)

    def take(self) -> Connection | None:
        """The idle connection that was used last; None if there is none."""
        return self._idle.pop() if self._idle else None

    def give_back(self, connection: Connection) -> None:
        connection.flight, connection.idle_since = None, time.monotonic()
        self._idle.append(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection, whatever its state."""
        del self.by_fd[connection.fd]
        if not connection.is_open:
            self.num_opening -= 1
        elif connection.flight is None and connection in self._idle:
            self._idle.remove(connection)
        connection.close()  # also ends its registration

    def watch(self, connection: Connection, *, writing: bool) -> None:
        """Set whether the poll also reports when the connection is writable."""
        self._epoll.modify(connection.fd, select.EPOLLIN | (select.EPOLLOUT if writing else 0))

    def close(self) -> None:
        for connection in list(self.by_fd.values()):
            self.drop(connection)
