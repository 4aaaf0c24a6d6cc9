"""Waits at sockets up to a time, to within microseconds: sleeps at first, then looks again and again."""

from __future__ import annotations

import math
import select
from contextlib import suppress
from pathlib import Path

SPIN_TIME = 0.0001
"""Seconds before the end from which on there is no sleep: timers wake up by so much too late."""

COARSE_TIME = 0.003
"""Seconds from which on sleeping in whole milliseconds is good enough."""

MAX_EVENTS = 256


def sharpen_timers() -> None:
    """Have the system wake this thread up when it is time, and not up to 50 microseconds later."""
    with suppress(OSError):  # an old system: it only wakes up later
        Path("/proc/self/timerslack_ns").write_text("1", encoding="ascii")


def wait(epoll: select.epoll, seconds: float) -> list[tuple[int, int]]:
    """What has happened at the sockets: at once if anything has, empty a little before the time is over."""
    if seconds > COARSE_TIME:
        whole = math.floor(1000 * seconds - 1)
        return epoll.poll((whole - 0.5) / 1000, MAX_EVENTS)  # it rounds up to milliseconds
    if seconds > SPIN_TIME:
        select.select((epoll,), (), (), seconds - SPIN_TIME)  # in microseconds
    return epoll.poll(0, MAX_EVENTS)
