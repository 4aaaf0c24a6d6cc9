"""Running tasks in processes: outcomes come in any order, and a dead worker fails only its own task."""

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
from pagedbench.runs.machine import usable_cores
from pagedbench.runs.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

WAIT_TIME = 0.2
"""Seconds between two looks at the stop event."""

STOP = b""
"""The message to a worker that it should stop."""

Stop: TypeAlias = threading.Event
"""An event that asks running tasks to end soon."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A task without an outcome, with a sentence that says what went wrong."""

    reason: str


@dataclass(slots=True)
class _Worker(Generic[Task]):
    process: BaseProcess
    connection: Connection
    task: Task


def new_stop() -> Stop:
    """A stop event that is not set."""
    return threading.Event()


def in_processes(
    work: Callable[[Task, Stop], Outcome], tasks: Iterable[Task], jobs: int, stop: Stop
) -> Iterator[tuple[Task, Outcome | Failure]]:
    """Every task with its outcome, as they end. After `stop` no task begins, and workers are told to stop.

    Args:
        work: importable by name; it and the tasks are sent to other processes.
        jobs: the largest number of processes.
    """
    pending, workers, is_told = list(tasks)[::-1], list[_Worker[Task]](), False
    try:
        while workers or (pending and not stop.is_set()):
            while pending and len(workers) < jobs and not stop.is_set():
                workers.append(_start_worker(work, pending.pop()))
            if stop.is_set() and not is_told:
                is_told = True
                _tell_to_stop(workers)
            for ready in wait([worker.connection for worker in workers], WAIT_TIME):
                worker = next(worker for worker in workers if worker.connection is ready)
                task, outcome = worker.task, _received(worker)
                has_died = isinstance(outcome, Failure) and not worker.process.is_alive()
                if pending and not has_died and not stop.is_set():
                    worker.task = pending.pop()
                    worker.connection.send(worker.task)
                else:
                    workers.remove(worker)
                    _end_worker(worker)
                yield task, outcome
    finally:
        for worker in workers:  # an error, or a second Ctrl-C
            worker.process.kill()
            _end_worker(worker)


def in_this_process(
    work: Callable[[Task, Stop], Outcome], tasks: Iterable[Task], stop: Stop
) -> Iterator[tuple[Task, Outcome | Failure]]:
    """The same in this process, one task after another, for a device that runs one at a time."""
    for task in tasks:
        if stop.is_set():
            return
        yield task, attempt(work, task, stop)


def _start_worker(work: Callable[[Task, Stop], Any], task: Task) -> _Worker[Task]:
    """Start a worker as a fresh interpreter, because a fork would copy threads in an arbitrary state.

    The worker inherits blocked signals, so Ctrl-C and termination reach it only through its parent. In the
    meantime a signal to the parent waits, so that no worker is left half-started.
    """
    context = multiprocessing.get_context("spawn")
    own_end, worker_end = context.Pipe()
    process = context.Process(target=_serve, args=(worker_end, work), daemon=True)
    resource_tracker.ensure_running()  # else `start` would start it, and unblock the signals
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    worker_end.close()
    own_end.send(task)
    return _Worker(process, own_end, task)


def _tell_to_stop(workers: list[_Worker[Task]]) -> None:
    for worker in workers:
        with contextlib.suppress(OSError):  # it has died, which `_received` notices
            worker.connection.send_bytes(STOP)


def _end_worker(worker: _Worker[Task]) -> None:
    worker.connection.close()
    worker.process.join()


def _received(worker: _Worker[Task]) -> Any:
    try:
        return worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        return Failure(f"its process died (exit code {worker.process.exitcode}): it may need more memory")


def _serve(connection: Connection, work: Callable[[Any, Stop], Any]) -> None:
    """The main loop of a worker: tasks until the parent closes the connection or dies."""
    tasks, stop = queue.SimpleQueue[bytes](), threading.Event()
    threading.Thread(target=_listen, args=(connection, tasks, stop), daemon=True).start()
    with contextlib.suppress(OSError):  # the parent has gone
        while True:
            connection.send(attempt(work, ForkingPickler.loads(tasks.get()), stop))


def _listen(connection: Connection, tasks: queue.SimpleQueue[bytes], stop: Stop) -> None:
    """Receive messages while a task runs, and end with the parent."""
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(0)
        if message == STOP:
            stop.set()
        else:
            tasks.put(message)


def attempt(work: Callable[[Any, Stop], Any], task: Any, stop: Stop) -> Any:
    """The outcome of a task; a `Failure` if it raises an error."""
    try:
        return work(task, stop)
    except Exception as error:
        return Failure(crash_text(error))


@contextlib.contextmanager
def stopping(stop: Stop, end: Callable[[], None]) -> Iterator[None]:
    """Within the block, `end` is called once if `stop` is set."""
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
    """The number of processes of `--jobs`.

    Raises:
        ConfigError: fewer than one, or several on one real device.
    """
    if jobs is None:
        return usable_cores() if is_simulated else 1
    if jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, not {jobs}")
    if jobs > 1 and not is_simulated:
        raise ConfigError("--jobs above 1 would let runs on a real device disturb each other: leave it out")
    return jobs
