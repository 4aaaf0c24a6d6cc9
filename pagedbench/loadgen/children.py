"""Starting processes of this program, which get Ctrl-C only through their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNALS = (signal.SIGINT, signal.SIGTERM)
KEY_ENDING = "_API_KEY"
"""Environment variables whose names have this ending hold secrets, which no child needs."""


def start_python(
    script: str, arguments: Sequence[str], *, fds: Sequence[int] = (), with_pipes: bool = False
) -> subprocess.Popen[bytes]:
    """Start a fresh interpreter that finds the same modules as this one.

    Args:
        fds: open files that it inherits under the same numbers.
        with_pipes: are its stdin and stdout pipes? Otherwise stdin is empty, and stdout is shared.
    """
    pipe = subprocess.PIPE
    environment = {name: value for name, value in os.environ.items() if not name.endswith(KEY_ENDING)}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # inherited by the child
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", script, *arguments],
            stdin=pipe if with_pipes else subprocess.DEVNULL,
            stdout=pipe if with_pipes else None,
            env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            pass_fds=fds,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
