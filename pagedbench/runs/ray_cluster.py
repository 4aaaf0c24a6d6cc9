"""Connecting to Ray: a temporary one, which leaves nothing behind, or a cluster, which gets our code."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagedbench.config import ConfigError
from pagedbench.runs.code import copy_code
from pagedbench.runs.machine import COMMIT_VARIABLE, git_commit, usable_cores
from pagedbench.runs.remains import removed_afterwards
from pagedbench.runs.signals import AT_LEAVE, SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_TIMEOUT = 5.0
"""Seconds."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
"""Environment variables by which Ray sends no usage data and prints nothing."""

OWN_PLACE = Path("/tmp")
"""Folder for a temporary Ray's files: sockets' names have at most 107 bytes; TMPDIR may be longer."""


def check_address(address: str) -> None:
    """Refuse an address at which nothing listens.

    Raises:
        ConfigError: it is not of the form HOST:PORT, or no connection is possible.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16 or "/" in host:
        raise ConfigError(f"--ray-address takes auto or HOST:PORT, such as 10.0.0.1:6379, not {address!r}")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
    except OSError as error:
        raise ConfigError(
            f"no Ray answers at {address} ({error.strerror or error}): start one there with `ray start "
            f"--head --port={port}`"
        ) from None


@contextlib.contextmanager
def ray_of(address: str | None, cores: int | None) -> Iterator[None]:
    """Connect to a cluster within the block; None: start one, and end it afterwards.

    Args:
        cores: cores of the Ray that is started.

    Raises:
        ConfigError: there is no such cluster, or its version differs.
    """
    place = Path(tempfile.mkdtemp(prefix="pb-ray-", dir=OWN_PLACE))
    with removed_afterwards(place), _variables(QUIET | (_of_our_own() if address is None else {})):
        import ray

        children = _Children()
        AT_LEAVE.append(children.end_all)
        try:
            _connect(address, cores, place)
            yield
        finally:
            begun = children.begun()
            try:
                with _own_signals(), _silent_stderr():
                    ray.shutdown()
            finally:
                children.end(begun)
                AT_LEAVE.remove(children.end_all)


def _connect(address: str | None, cores: int | None, place: Path) -> None:
    import ray

    if address is None:
        own: dict[str, Any] = {"address": "local", "include_dashboard": False, "_temp_dir": str(place)}
        own |= {"num_cpus": cores or usable_cores(), "num_gpus": 0}
    else:
        modules, variables = [str(copy_code(place))], {COMMIT_VARIABLE: git_commit() or ""}
        own = {"address": address, "runtime_env": {"py_modules": modules, "env_vars": variables}}
    try:
        with _own_signals(), _silent_stderr():
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **own)
    except SystemExit:  # Ray's handler of SIGTERM, while it starts
        raise KeyboardInterrupt from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        hint = "" if address is None else " (where it asks for a token: RAY_AUTH_MODE=token)"
        raise ConfigError(f"no Ray can be used at {address or 'this machine'}: {reason}{hint}") from error


def _of_our_own() -> dict[str, str]:
    """Variables by which workers import what this process does, and other users cannot use them."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return token | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Within the block, nothing is printed to stderr, even by code that writes to its descriptor."""
    sys.stderr.flush()
    copy, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(copy, 2)
        os.close(copy)
        os.close(nowhere)


@contextlib.contextmanager
def _variables(wanted: dict[str, str]) -> Iterator[None]:
    """Environment variables within the block."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Children:
    """Child processes since construction: without help, Ray's agents outlive Ray by half a minute."""

    def __init__(self) -> None:
        import psutil  # Ray brings it

        self._error, self._own = psutil.Error, psutil.Process()
        self._earlier = set(self._own.children())

    def begun(self) -> list[Any]:
        first = set(self._own.children()) - self._earlier
        return [child for parent in first for child in (parent, *parent.children(recursive=True))]

    def end(self, children: list[Any]) -> None:
        for child in children:
            with contextlib.suppress(self._error):  # it has ended
                child.kill()

    def end_all(self) -> None:
        with contextlib.suppress(self._error):
            self.end(self.begun())


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Restore our signal handlers after the block, because Ray installs its own."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
