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
    from multiprocessing.process import BaseProcess

THREADS = Path("/proc/self/task")


@contextmanager
def beside(work: Callable[[], None], *, is_worth_it: bool) -> Iterator[None]:
    """Do `work`, which only writes files and may be repeated, while the block runs, or after it.

    It is done after the block, by this process, if a copy is not worth its time, cannot be made, or fails.
    A process of several threads cannot be copied safely, and only Linux says how many there are.
    """
    copy: BaseProcess | None = None
    try:
        if is_worth_it and THREADS.is_dir() and len(list(THREADS.iterdir())) == 1:
            # A signal that came within a hook of the fork would be printed and lost.
            usual = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                copy = _copy_doing(work)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, usual)
        yield
        if copy is not None:
            copy.join()
    finally:
        if copy is not None:
            copy.kill()
            copy.join()
    if copy is None or copy.exitcode:
        work()


def _copy_doing(work: Callable[[], None]) -> BaseProcess | None:
    """A copy of this process that works; None if the system refuses another process. It gets no signals."""
    import multiprocessing

    copy = multiprocessing.get_context("fork").Process(target=_do, args=(work,))
    try:
        copy.start()
    except OSError:
        return None
    return copy


def _do(work: Callable[[], None]) -> None:
    """Do the work, and say by the exit code whether it is done. An error is shown where it is repeated."""
    try:
        work()
    except BaseException:
        os._exit(1)
