"""Files that appear whole or not at all."""

from __future__ import annotations

import gzip
import os
from contextlib import suppress
from pathlib import Path

from pagedbench.workload.rows import TraceError


def write_text(path: str | Path, text: str) -> None:
    """Write a text, gzipped if the name ends in `.gz`; equal texts give equal files.

    Raises:
        TraceError: the file cannot be written.
    """
    data = text.encode()
    if str(path).endswith(".gz"):
        data = gzip.compress(data, mtime=0)  # without a time of day
    write_whole(path, data)


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file so that it is never seen half-written, not even after a crash.

    Raises:
        TraceError: the file cannot be written.
    """
    target = Path(path)
    scratch = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        scratch.write_bytes(data)
        scratch.replace(target)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise TraceError(f"cannot write {target}: {error.strerror or error}") from error
