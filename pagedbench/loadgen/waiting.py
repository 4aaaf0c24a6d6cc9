"""Waiting for sockets up to a time, to within microseconds: first by sleeping, then by polling."""

from __future__ import annotations

import math
import select
from contextlib import suppress
from pathlib import Path

SPIN_TIME = 0.0001
"""Seconds before the end in which there is no sleep, because timers wake up this much too late."""

COARSE_TIME = 0.003
"""From this many seconds on, sleeping in whole milliseconds is exact enough."""

MAX_EVENTS = 256


def sharpen_timers() -> None:
    """Let the system wake this thread on time, and not up to 50 microseconds later."""
    with suppress(OSError):  # on an old system the thread just wakes up later
        Path("/proc/self/timerslack_ns").write_text("1", encoding="ascii")


def wait(epoll: select.epoll, seconds: float) -> list[tuple[int, int]]:
    """The events of the sockets: at once if there are any; empty a little before the time is over."""
    if seconds > COARSE_TIME:
        whole = math.floor(1000 * seconds - 1)
        return epoll.poll((whole - 0.5) / 1000, MAX_EVENTS)  # it rounds up to milliseconds
    if seconds > SPIN_TIME:
        select.select((epoll,), (), (), seconds - SPIN_TIME)  # in microseconds
    return epoll.poll(0, MAX_EVENTS)
