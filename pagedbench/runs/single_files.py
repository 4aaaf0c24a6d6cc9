"""Files that stand by themselves, such as plots: never over another one unasked, never there by half."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.runs.files import ReportError
from pagedbench.runs.remains import clear_remains, hidden_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def check_files(paths: Iterable[Path], *, force: bool) -> None:
    """Can these be written? To be asked before the work.

    Raises:
        ConfigError: one exists already (without `force`), or its folder cannot be made.
    """
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: name a file with --output")
        if path.exists() and not force:
            raise ConfigError(f"{path} exists: choose another --output, or replace it with --force")
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
            raise ConfigError(f"{path} cannot be made: {above} is not a folder that may be written to")


def write_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, and the folders above it; an earlier one is replaced.

    Raises:
        ReportError: the disk is full, the place may not be written to, and the like.
    """
    hidden = hidden_path(path, "incomplete")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_remains(path.parent)
        try:
            hidden.write_bytes(content)
            hidden.replace(path)
        finally:
            hidden.unlink(missing_ok=True)
    except OSError as error:
        raise ReportError(f"{path} could not be written: {error.strerror or error}") from error
