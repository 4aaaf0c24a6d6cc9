"""Tasks in several processes at once: outcomes come in any order, a dead worker costs its task alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pagedbench.metrics.crash import crash_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

WAIT_TIME = 0.2
"""Seconds after which the parent looks whether it is to stop."""


class Stop(Protocol):
    """An Event of `threading` or of `multiprocessing`: set when everything is to end soon."""

    def is_set(self) -> bool: ...

    def set(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool: ...


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
    """To be set when work in processes is to end."""
    return multiprocessing.get_context("spawn").Event()


def in_processes(
    work: Callable[[Task, Stop], Outcome], tasks: Iterable[Task], jobs: int, stop: Stop
) -> Iterator[tuple[Task, Outcome | Failure]]:
    """Every task with its outcome, as they end.

    After `stop` no task begins, and those that run are expected to end soon.

    Args:
        work: importable by name; it and the tasks go to other processes.
        jobs: processes, at most one a task.
    """
    pending, workers = list(tasks)[::-1], list[_Worker[Task]]()
    try:
        while workers or (pending and not stop.is_set()):
            while pending and len(workers) < jobs and not stop.is_set():
                workers.append(_hire(work, stop, pending.pop()))
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
            worker.process.terminate()
            _dismiss(worker)


def in_this_process(
    work: Callable[[Task, Stop], Outcome], tasks: Iterable[Task], stop: Stop
) -> Iterator[tuple[Task, Outcome | Failure]]:
    """The same, one after the other, where a device serves one run at a time."""
    for task in tasks:
        if stop.is_set():
            return
        yield task, _attempt(work, task, stop)


def _hire(work: Callable[[Task, Stop], Any], stop: Stop, task: Task) -> _Worker[Task]:
    """A fresh interpreter: a fork would copy the parent's threads in the middle of what they do."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work, stop), daemon=True)
    process.start()
    theirs.close()
    ours.send(task)
    return _Worker(process, ours, task)


def _dismiss(worker: _Worker[Task]) -> None:
    worker.connection.close()
    worker.process.join()


def _received(worker: _Worker[Task]) -> Any:
    try:
        return worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        return Failure(f"its process died (exit code {worker.process.exitcode}): it may need more memory")


def _serve(connection: Connection, work: Callable[[Any, Stop], Any], stop: Stop) -> None:
    """A worker's life: tasks until the parent hangs up. Ctrl-C reaches it as `stop` alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(_attempt(work, connection.recv(), stop))


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
