"""The worker process: reads its job from a pipe, runs the loop, and leaves every exchange in a file."""

from __future__ import annotations

import gc
import os
import pickle
import resource
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.loadgen.job import Crash, Job, Progress, Ready, WorkerReport
from pagedbench.loadgen.loop import Loop
from pagedbench.loadgen.waiting import sharpen_timers

if TYPE_CHECKING:
    from pagedbench.loadgen.wire import Exchange

SPARE_FILES = 32
"""File descriptors besides the sockets: the interpreter's own, pipes and the file of exchanges."""


def main() -> None:
    """Do one job. The arguments are the file descriptors of the pipe and of the file of exchanges."""
    pipe_fd, spool_fd = map(int, sys.argv[1:])
    pipe = Connection(pipe_fd)
    try:
        report = _work(pipe, spool_fd)
        pipe.send(report)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(1)  # the parent has gone
    except Exception as error:
        pipe.send(Crash(f"{type(error).__name__}: {error}"))


def _work(pipe: Connection, spool_fd: int) -> WorkerReport:
    job: Job = pipe.recv()
    with os.fdopen(spool_fd, "wb", buffering=1 << 20) as spool:

        def keep(exchange: Exchange) -> None:
            pickle.dump(exchange, spool, pickle.HIGHEST_PROTOCOL)

        def tell(num_left: int) -> None:
            pipe.send(Progress(num_left))

        loop = Loop(job, max_sockets(), pipe.fileno(), lambda: _is_stop(pipe), keep, tell)
        sharpen_timers()
        gc.collect()
        gc.disable()  # a collection would delay calls by milliseconds; cycles here are short-lived
        pipe.send(Ready())
        zero: float = pipe.recv()
        before = time.monotonic(), time.process_time(), _waited()
        loop.run(zero)
    pool = loop.pool
    return WorkerReport(
        wall_s=time.monotonic() - before[0],
        cpu_s=time.process_time() - before[1],
        num_opened=pool.num_opened,
        was_full=pool.was_full,
        waited_s=_waited() - before[2],
    )


def _waited() -> float:
    """Seconds in which this thread waited for a core; 0 if the system does not report it."""
    try:
        _, waited, _ = Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 0.0
    return int(waited) / 1e9


def _is_stop(pipe: Connection) -> bool:
    """Must the run stop? The only message during a run, or the death of the parent, means this."""
    pipe.recv()
    return True


def max_sockets() -> int:
    """Raise this process's limit of open files as far as permitted. Returns how many sockets it allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(hard - SPARE_FILES, 1) if hard != resource.RLIM_INFINITY else sys.maxsize
