"""Ctrl-C and termination end the program with exit code 130, whatever it is doing."""

from __future__ import annotations

import os
import signal
import sys

from pagedbench.runs.exit_codes import INTERRUPTED

TYPE_CHECKING = False  # of `typing`, which takes longer to import than this file to run
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AT_LEAVE: list[Callable[[], object]] = []
"""Functions that `leave` calls first; none of them raises or imports anything."""


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle a signal that no command handles itself: end with exit code 130.

    An exception within an import would show as a traceback, or as a broken module, because several
    libraries catch all errors there. In this case the process ends at once.

    Raises:
        KeyboardInterrupt: nothing is being imported, so the program can clean up.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            leave()
        frame = frame.f_back
    raise KeyboardInterrupt


def leave() -> None:
    """End the process at once, with exit code 130."""
    for clean_up in AT_LEAVE:
        clean_up()
    try:
        sys.stdout.flush()
    finally:  # stdout may be missing, closed, or in the middle of a write
        os._exit(INTERRUPTED)
