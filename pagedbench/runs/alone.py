"""A lock on a folder, in which only one command works at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def alone_in(folder: Path, command: str, lock: str = ".") -> Iterator[None]:
    """Make the folder if it is missing, and keep other commands out of it within the block.

    Args:
        command: the name of this command, for the error that others get.
        lock: a folder in it that stays when the folder itself is replaced.

    Raises:
        ConfigError: another command is at work there, or the folder cannot be made.
    """
    try:
        (folder / lock).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / lock, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be used: {error.strerror}: choose another --output") from None
    try:
        if not _is_locked(descriptor, folder / lock):
            raise ConfigError(
                f"another {command} is at work in {folder}: wait until it has ended, or choose another "
                "--output"
            )
        yield
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int, path: Path) -> bool:
    """Lock the path until the descriptor is closed; the system closes it if the process dies."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), path.stat())  # else its owner removed it just now
    except (BlockingIOError, FileNotFoundError):
        return False
