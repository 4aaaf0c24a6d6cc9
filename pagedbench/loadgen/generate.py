"""generate: sends calls to a server by worker processes, and returns what was seen of each."""

from __future__ import annotations

import pickle
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import isfinite, nan
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import IO, TYPE_CHECKING

from pagedbench.errors import ConfigError
from pagedbench.loadgen.children import start_python
from pagedbench.loadgen.job import Crash, Job, Progress, Ready, WorkerReport
from pagedbench.loadgen.timeline import clients_of, shares
from pagedbench.loadgen.wire import Exchange, Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from subprocess import Popen
    from threading import Event

    from pagedbench.loadgen.target import Reached
    from pagedbench.loadgen.wire import Call

START_DELAY = 0.1
"""Seconds between the last worker's readiness and the start of the run, in addition to connecting."""

WAIT_TIME = 0.1
"""Seconds between two looks at the stop event."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How the load was generated.

    Attributes:
        zero: the start of the run on the monotonic clock of this machine.
        workers: the reports of the workers that finished.
        problems: a sentence for every worker that failed.
        was_full: did calls have to wait because no more sockets could be opened?
        was_stopped: was the run stopped from outside?
    """

    zero: float
    workers: tuple[WorkerReport, ...]
    problems: tuple[str, ...]
    was_stopped: bool

    @property
    def was_full(self) -> bool:
        return any(report.was_full for report in self.workers)


@dataclass(slots=True)
class _Worker:
    process: Popen[bytes]
    pipe: Connection
    spool: IO[bytes]
    calls: list[Call]
    num_left: int
    report: WorkerReport | None = None
    problem: str = ""
    is_ready: bool = False

    @property
    def is_over(self) -> bool:
        return self.report is not None or bool(self.problem)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.pipe.close()


@dataclass(slots=True)
class _Run:
    """The workers of one run.

    Attributes:
        zero: the start of the run; NaN before.
    """

    workers: list[_Worker] = field(default_factory=list)
    zero: float = nan
    was_stopped: bool = False

    def listen(self) -> None:
        """Receive the workers' messages for a short time."""
        pipes = {worker.pipe: worker for worker in self.workers if not worker.is_over}
        ready = wait(list(pipes), WAIT_TIME)
        for worker in (worker for pipe, worker in pipes.items() if pipe in ready):
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                message = Crash(f"it died (exit code {worker.process.wait()})")
            if isinstance(message, Ready):
                worker.is_ready = True
            elif isinstance(message, Progress):
                worker.num_left = message.num_left
            elif isinstance(message, WorkerReport):
                worker.report, worker.num_left = message, 0
            else:
                worker.problem, worker.num_left = message.reason, 0

    def tell(self, message: object) -> None:
        for worker in self.workers:
            if not worker.is_over:
                with suppress(OSError):  # it has died, which `listen` notices
                    worker.pipe.send(message)


def check_generator() -> None:
    """Refuse an installation that cannot generate load; to be called before anything heavy.

    Raises:
        ConfigError: the parser of replies is not installed, or the system is not Linux.
    """
    if find_spec("httptools") is None:
        raise ConfigError(f"sending requests needs httptools: {sys.executable} -m pip install httptools")
    if not sys.platform.startswith("linux"):
        raise ConfigError("sending requests needs Linux, because the load generator uses epoll")


def generate(
    calls: Sequence[Call], reached: Reached, *, on_exchange: Callable[[Exchange], None], timeout: float,
    num_workers: int = 1, num_clients: int | None = None, stop: Event | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Generation:  # fmt: skip
    """Send every call when it is due, from several processes that start at the same time.

    Replies are not examined before the run is over; then every call has exactly one exchange.

    Args:
        calls: the calls, each after the one that it waits for.
        on_exchange: called with each exchange after the run, worker by worker.
        timeout: seconds from a call's scheduled time within which its reply must end.
        num_workers: processes; a session stays in one.
        num_clients: clients of a closed loop: each runs one session at a time, and its next one begins
            the `delay` of its first call after the previous one has ended; `due` is ignored. None: an open
            loop.
        stop: setting it ends the run at once; calls that were not sent are SKIPPED.
        on_progress: called several times per second with the number of calls that have ended.

    Raises:
        ConfigError: no calls, a number of workers or clients below 1, or a timeout that is not positive.
    """
    _check(calls, timeout, num_workers, num_clients)
    run = _Run()
    dealt = shares(calls, num_workers, num_clients)
    with ExitStack() as ends:
        for number, share in enumerate(dealt):
            clients = None if num_clients is None else clients_of(number, len(dealt), num_clients)
            spool = ends.enter_context(tempfile.TemporaryFile())
            run.workers.append(_start_worker(Job(reached, share, timeout, clients), spool))
            ends.callback(run.workers[-1].end)
        _attend(run, reached, len(calls), stop, on_progress)
        for exchange in _all_exchanges(run):
            on_exchange(exchange)
    return Generation(
        zero=run.zero,
        workers=tuple(worker.report for worker in run.workers if worker.report is not None),
        problems=tuple(
            f"A worker has failed: {worker.problem}" for worker in run.workers if worker.problem
        ),
        was_stopped=run.was_stopped,
    )


def _check(calls: Sequence[Call], timeout: float, num_workers: int, num_clients: int | None) -> None:
    check_generator()
    if not calls:
        raise ConfigError("there are no requests to send")
    if num_workers < 1 or (num_clients is not None and num_clients < 1):
        raise ConfigError("the numbers of workers and of clients must be at least 1")
    if not (isfinite(timeout) and timeout > 0):
        raise ConfigError(f"the timeout must be a positive number of seconds, not {timeout:g}")


def _start_worker(job: Job, spool: IO[bytes]) -> _Worker:
    """Start a worker. The job goes through a pipe, so that no key in a header is among the arguments."""
    own_end, worker_end = Pipe()
    script = "from pagedbench.loadgen.worker import main; main()"
    fds = (worker_end.fileno(), spool.fileno())
    process = start_python(script, [str(fd) for fd in fds], fds=fds)
    worker_end.close()
    worker = _Worker(process, own_end, spool, job.calls, len(job.calls))
    with suppress(OSError):  # it has died, which `listen` notices
        own_end.send(job)
    return worker


def _attend(
    run: _Run,
    reached: Reached,
    num_calls: int,
    stop: Event | None,
    on_progress: Callable[[int], None] | None,
) -> None:
    """Start the run when all workers are ready, and wait for its end."""
    while not all(worker.is_ready or worker.is_over for worker in run.workers):
        run.listen()
    run.zero = time.monotonic() + START_DELAY + 4 * reached.connect_time
    run.tell(run.zero)
    while not all(worker.is_over for worker in run.workers):
        run.listen()
        if on_progress is not None:
            on_progress(num_calls - sum(worker.num_left for worker in run.workers))
        if stop is not None and stop.is_set() and not run.was_stopped:
            run.was_stopped = True
            run.tell(None)


def _all_exchanges(run: _Run) -> Iterator[Exchange]:
    """The exchanges that the workers left; calls without one, because their worker died, have failed."""
    for worker in run.workers:
        missing = {call.request_id: call for call in worker.calls}
        worker.spool.seek(0)
        with suppress(EOFError, pickle.UnpicklingError):  # the end, or the end of a worker that died
            while True:
                exchange: Exchange = pickle.load(worker.spool)
                del missing[exchange.request_id]
                yield exchange
        now = time.monotonic() - run.zero
        for call in missing.values():
            why = f"the process that was to send it has failed: {worker.problem}"
            yield Exchange(call.request_id, call.due, nan, nan, None, [], now, Failure.CONNECTION, why)
