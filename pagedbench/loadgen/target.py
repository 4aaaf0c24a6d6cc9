"""Target: the server that calls go to, checked and connected to once before a run."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pagedbench.errors import ConfigError

PORTS = {"http": 80, "https": 443}
CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server.

    Attributes:
        host: the host as typed; certificates are checked against it.
        path: the path of the base URL, without a slash at its end.
        is_tls: is the connection encrypted?
        is_verified: must its certificate be valid?
    """

    host: str
    port: int
    path: str = ""
    is_tls: bool = False
    is_verified: bool = True

    @property
    def authority(self) -> str:
        """Host and port for the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS["https" if self.is_tls else "http"] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Reached:
    """A target that has accepted a connection.

    Attributes:
        family: the family of its address.
        address: the address for `connect`; names are looked up once, not for every call.
        connect_time: seconds that connecting took, encryption included.
    """

    target: Target
    family: int
    address: tuple[Any, ...]
    connect_time: float


def target_of(url: str) -> Target:
    """The server of a base URL.

    The error does not repeat the URL, because it may hold a secret.

    Raises:
        ConfigError: it is not a URL with http or https, a host and, if it has one, a port.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError("--base-url is not a URL: its host or its port is wrong") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError("--base-url has a user or a password in it: give the API key in the environment")
    if parts.scheme not in PORTS or not host or parts.query or parts.fragment or not url.isascii():
        raise ConfigError("--base-url must look like http://HOST:PORT or https://HOST/PATH")
    return Target(host, port or PORTS[parts.scheme], parts.path.rstrip("/"), parts.scheme == "https")


def reach(target: Target) -> Reached:
    """Look the host up, connect to it once, and close that connection.

    Raises:
        ConfigError: there is no such host, or it does not answer.
    """
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--base-url: the host {target.host} cannot be found: {_reason(error)}") from None
    problem: Exception | None = None
    for family, _, _, _, address in found:
        begin = time.monotonic()
        try:
            _connect_once(target, family, address)
        except OSError as error:
            problem = error
            continue
        return Reached(target, family, address, time.monotonic() - begin)
    assert problem is not None, "getaddrinfo raises where it finds nothing"
    raise ConfigError(f"--base-url: {target.authority} cannot be reached: {_reason(problem)}")


def _connect_once(target: Target, family: int, address: tuple[Any, ...]) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as plain:
        plain.settimeout(CONNECT_TIMEOUT)
        plain.connect(address)
        if target.is_tls:
            from pagedbench.loadgen.connection import tls_context

            tls_context(target).wrap_socket(plain, server_hostname=target.host).close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
