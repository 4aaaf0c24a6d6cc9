"""Tasks in several processes at once: outcomes come in any order, a dead worker costs its task alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from pagedbench.config import ConfigError
from pagedbench.metrics.crash import crash_text
from pagedbench.runs.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

WAIT_TIME = 0.2
"""Seconds after which the parent looks whether it is to stop."""


STOP = b""
"""What a worker is sent instead of a task."""

Stop: TypeAlias = threading.Event
"""Set when everything is to end soon."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A task without an outcome: what went wrong, in a sentence."""

    reason: str


@dataclass(slots=True)
class _Worker(Generic[Task]):
    process: BaseProcess
    connection: Connection
    task: Task


def new_stop() -> Stop:
    """To be set when work is to end; workers are told."""
    return threading.Event()


def in_processes(
    work: Callable[[Task, Stop], Outcome], tasks: Iterable[Task], jobs: int, stop: Stop
) -> Iterator[tuple[Task, Outcome | Failure]]:
    """Every task with its outcome, as they end.

    After `stop` no task begins, and those that run are expected to end soon.

    Args:
        work: importable by name; it and the tasks go to other processes.
        jobs: processes, at most one a task.
    """
    pending, workers, is_told = list(tasks)[::-1], list[_Worker[Task]](), False
    try:
        while workers or (pending and not stop.is_set()):
            while pending and len(workers) < jobs and not stop.is_set():
                workers.append(_hire(work, pending.pop()))
            if stop.is_set() and not is_told:
                is_told = True
                _tell(workers)
            for ready in wait([worker.connection for worker in workers], WAIT_TIME):
                worker = next(worker for worker in workers if worker.connection is ready)
                task, outcome = worker.task, _received(worker)
                has_died = isinstance(outcome, Failure) and not worker.process.is_alive()
                if pending and not has_died and not stop.is_set():
                    worker.task = pending.pop()
                    worker.connection.send(worker.task)
                else:
                    workers.remove(worker)
                    _dismiss(worker)
                yield task, outcome
    finally:
        for worker in workers:  # an error, or a second Ctrl-C
            worker.process.kill()
            _dismiss(worker)


def in_this_process(
    work: Callable[[Task, Stop], Outcome], tasks: Iterable[Task], stop: Stop
) -> Iterator[tuple[Task, Outcome | Failure]]:
    """The same, one after the other, where a device serves one run at a time."""
    for task in tasks:
        if stop.is_set():
            return
        yield task, _attempt(work, task, stop)


def _hire(work: Callable[[Task, Stop], Any], task: Task) -> _Worker[Task]:
    """A fresh interpreter: a fork would copy the parent's threads in the middle of what they do.

    It inherits that signals are blocked, from its first instruction on: Ctrl-C and termination reach it
    through its parent alone. What the parent gets meanwhile waits, so it cannot leave a worker half-made.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    resource_tracker.ensure_running()  # it would be started below, and let signals through again
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    theirs.close()
    ours.send(task)
    return _Worker(process, ours, task)


def _tell(workers: list[_Worker[Task]]) -> None:
    for worker in workers:
        with contextlib.suppress(OSError):  # it has died, which is seen when it is asked for its outcome
            worker.connection.send_bytes(STOP)


def _dismiss(worker: _Worker[Task]) -> None:
    worker.connection.close()
    worker.process.join()


def _received(worker: _Worker[Task]) -> Any:
    try:
        return worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        return Failure(f"its process died (exit code {worker.process.exitcode}): it may need more memory")


def _serve(connection: Connection, work: Callable[[Any, Stop], Any]) -> None:
    """A worker's life: tasks until the parent hangs up or dies."""
    tasks, stop = queue.SimpleQueue[bytes](), threading.Event()
    threading.Thread(target=_listen, args=(connection, tasks, stop), daemon=True).start()
    with contextlib.suppress(OSError):  # nobody is there any more
        while True:
            connection.send(_attempt(work, ForkingPickler.loads(tasks.get()), stop))


def _listen(connection: Connection, tasks: queue.SimpleQueue[bytes], stop: Stop) -> None:
    """Receive also while a task is under way. Without a parent nobody waits for its outcome."""
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(0)
        if message == STOP:
            stop.set()
        else:
            tasks.put(message)


def _attempt(work: Callable[[Any, Stop], Any], task: Any, stop: Stop) -> Any:
    try:
        return work(task, stop)
    except Exception as error:
        return Failure(crash_text(error))


@contextlib.contextmanager
def stopping(stop: Stop, end: Callable[[], None]) -> Iterator[None]:
    """Within the block, calls `end` once if `stop` is set."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WAIT_TIME):
            if stop.is_set():
                end()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def checked_jobs(jobs: int | None, *, is_simulated: bool) -> int:
    """How many processes.

    Raises:
        ConfigError: none, or several on one real device.
    """
    if jobs is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cores if is_simulated else 1
    if jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, not {jobs}")
    if jobs > 1 and not is_simulated:
        raise ConfigError("--jobs above 1 would let runs on a real device disturb each other: drop it")
    return jobs
