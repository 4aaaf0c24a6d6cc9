"""Work beside other work, in a copy of this process."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.runs.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = Path("/proc/self/task")


@contextmanager
def beside(work: Callable[[], None], *, is_worth_it: bool) -> Iterator[None]:
    """Do `work`, which only writes files and may be repeated, while the block runs.

    A process of several threads cannot be copied safely, and only Linux says how many there are: elsewhere,
    if a copy is not worth its time, and if the copy fails, this process does the work itself.
    """
    if not is_worth_it or not THREADS.is_dir() or len(list(THREADS.iterdir())) > 1:
        work()
        yield
        return
    import multiprocessing

    child = multiprocessing.get_context("fork").Process(target=_do, args=(work,))
    child.start()
    try:
        yield
        child.join()
    finally:
        child.kill()
        child.join()
    if child.exitcode:
        work()


def _do(work: Callable[[], None]) -> None:
    """Do the work, and say by the exit code whether it is done. An error is shown where it is repeated.

    Signals are for the process that waits.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        work()
    except BaseException:
        os._exit(1)
