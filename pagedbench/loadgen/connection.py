"""Connection: a non-blocking socket to the server, plain or encrypted."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

    from pagedbench.loadgen.flight import Flight
    from pagedbench.loadgen.target import Reached, Target

RECEIVE_SIZE = 1 << 16
"""Bytes at a time. For twice as many the allocator asks the system anew each time, 13 of 21 us a piece."""
IN_PROGRESS = (0, errno.EINPROGRESS, errno.EAGAIN)


def tls_context(target: Target) -> ssl.SSLContext:
    """The settings of encrypted connections."""
    import ssl

    context = ssl.create_default_context()
    if not target.is_verified:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connection:
    """A socket that is connecting or connected.

    Attributes:
        is_open: is it connected, with the TLS handshake done, so that it can be written to?
        wants_write: does the next step wait until the socket is writable?
        flight: the call that uses it; None while it is idle.
        idle_since: the time at which it became idle.

    Raises:
        OSError: no socket is left, or the server cannot be reached at all.
    """

    __slots__ = ("_socket", "_tls", "fd", "flight", "idle_since", "is_open", "wants_write")

    def __init__(self, reached: Reached, context: ssl.SSLContext | None) -> None:
        plain = socket.socket(reached.family, socket.SOCK_STREAM)
        try:
            plain.setblocking(False)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = plain.connect_ex(reached.address)
            if code not in IN_PROGRESS:
                raise OSError(code, os.strerror(code))
        except OSError:
            plain.close()
            raise
        self._socket: socket.socket = plain
        self._tls: ssl.SSLSocket | None = None
        if context is not None:
            host = reached.target.host
            self._tls = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
            self._socket = self._tls
        self.fd = self._socket.fileno()
        self.is_open, self.wants_write = False, True
        self.flight: Flight | None = None
        self.idle_since = time.monotonic()

    def advance(self) -> None:
        """Continue connecting as far as possible without waiting.

        Raises:
            OSError: the connection was refused, or encryption failed.
        """
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        try:
            self._socket.getpeername()
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # an event of a socket that had this number before
                return
            raise
        self.is_open = self._tls is None or self._shake_hands(self._tls)
        self.wants_write = self.wants_write and not self.is_open

    def _shake_hands(self, tls: ssl.SSLSocket) -> bool:
        import ssl

        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self.wants_write = False
            return False
        except ssl.SSLWantWriteError:
            self.wants_write = True
            return False
        return True

    def send(self, data: bytes | memoryview) -> int:
        """Write to the socket. Returns how many bytes it has taken, 0 if it takes none now.

        Raises:
            OSError: the connection is lost.
        """
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if self._tls is not None and _is_waiting(error):
                return 0
            raise

    def receive(self) -> bytes | None:
        """Bytes that have arrived; empty: the server has closed the connection; None: nothing arrived.

        Raises:
            OSError: the connection is lost.
        """
        if self._tls is not None:
            return self._receive_encrypted(self._tls)
        try:
            return self._socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return None

    def _receive_encrypted(self, tls: ssl.SSLSocket) -> bytes | None:
        """All bytes that are there: decrypted ones do not make the socket readable again."""
        import ssl

        found = bytearray()
        try:
            while data := tls.recv(RECEIVE_SIZE):
                found += data
                if not tls.pending():
                    return bytes(found)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return bytes(found)
        except OSError as error:
            if not _is_waiting(error):
                raise
            return bytes(found) or None
        return bytes(found)

    def close(self) -> None:
        self._socket.close()


def _is_waiting(error: OSError) -> bool:
    import ssl

    return isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError)
