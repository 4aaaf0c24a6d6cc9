"""Sending: progress of a run against a server, as plain lines on stderr."""

from __future__ import annotations

import sys
import time

LINE_TIME = 10.0
"""Seconds between two lines."""


class Sending:
    """Progress of the requests of one run.

    Args:
        mode: as for `Progress`; all except "none" are plain lines.
        title: printed before each line.
    """

    def __init__(self, num_requests: int, mode: str, title: str) -> None:
        self._num_requests = num_requests
        self._is_shown = mode != "none"
        self._title = title
        self._started = self._shown = time.monotonic()

    def note(self, num_ended: int) -> None:
        """Note that `num_ended` requests have ended."""
        now = time.monotonic()
        if not self._is_shown or now - self._shown < LINE_TIME:
            return
        self._shown = now
        elapsed = now - self._started
        print(
            f"{self._title}: [{elapsed:.0f} s] {num_ended:,} of {self._num_requests:,} requests have ended",
            file=sys.stderr,
        )
