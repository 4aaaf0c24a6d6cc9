"""Work for other processes: it must be importable there by name."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.runs.parallel import Stop


def work(task: str, stop: Stop) -> str:
    """What the task says: fail, die, wait to be stopped, or answer."""
    if task == "fail":
        raise ValueError("bad\nluck")
    if task == "die":
        os._exit(3)
    if task == "wait":
        stop.wait(30)
        return "stopped"
    time.sleep(0.01)
    return task.upper()


def blocked_signals(task: str, stop: Stop) -> set[int]:
    """What does not reach the worker."""
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
