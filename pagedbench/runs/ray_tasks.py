"""Running tasks in workers of a Ray cluster; a task whose worker is lost is tried again by another one."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import ray

from pagedbench.config import ConfigError
from pagedbench.runs.code import code_digest
from pagedbench.runs.parallel import WAIT_TIME, Failure, attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pagedbench.runs.parallel import Outcome, Stop

Task = TypeVar("Task")

MAX_RETRIES = 3
"""How many times a task is tried again after its worker was lost: the task may be the cause."""


class _Serving:
    """Runs in a worker: one task at a time, and concurrently the call that tells it to stop."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def begin(self, prepare: Callable[[], object] | None) -> str:
        """Get ready. Returns the digest of the code."""
        if prepare is not None:
            prepare()
        return code_digest()

    def run(self, work: Callable[[Any, Stop], Any], task: Any) -> Any:
        return attempt(work, task, self._stop)

    def stop(self) -> None:
        self._stop.set()


@dataclass(slots=True)
class _Try(Generic[Task]):
    """A task, and how many workers were lost with it."""

    task: Task
    num_lost: int = 0


@dataclass(slots=True)
class _Worker(Generic[Task]):
    """`current`: None while it starts."""

    actor: Any
    current: _Try[Task] | None = None


def on_ray(
    work: Callable[[Task, Stop], Outcome],
    tasks: Iterable[Task],
    jobs: int | None,
    stop: Stop,
    begin: Callable[[], object] | None = None,
) -> Iterator[tuple[Task, Outcome | Failure]]:
    """Every task with its outcome, as they end. After `stop` no task begins, and workers are told to stop.

    Args:
        work: importable by name; it and the tasks are sent to the workers.
        jobs: the largest number of workers; None: one per core of the cluster.
        begin: called by each worker before its first task.

    Raises:
        ConfigError: workers cannot start, or import another pagedbench.
    """
    size = jobs or int(ray.cluster_resources().get("CPU", 1))
    crew = _Crew(work, begin, deque(map(_Try, tasks)), size)
    try:
        while crew.workers or (crew.pending and not stop.is_set()):
            if stop.is_set():
                crew.tell_to_stop()
            else:
                crew.fill()
            for ref in ray.wait(list(crew.workers), timeout=WAIT_TIME)[0]:
                yield from crew.answered(ref, stop)
    finally:
        crew.end()


class _Crew(Generic[Task]):
    """The workers by their pending calls, and the tasks that no worker has yet."""

    def __init__(
        self, work: Callable[[Task, Stop], Any], begin: Callable[[], object] | None,
        pending: deque[_Try[Task]], size: int,
    ) -> None:  # fmt: skip
        self.workers: dict[Any, _Worker[Task]] = {}
        self.pending = pending
        self._work = work
        self._begin = begin
        self._size = size
        self._is_told = False
        self._num_lost_at_start = 0
        self._kind = ray.remote(num_cpus=1, max_restarts=0, max_concurrency=2)(_Serving)

    def fill(self) -> None:
        """Start as many workers as there are tasks. A worker that waits for a core has no task yet."""
        starting = sum(worker.current is None for worker in self.workers.values())
        while starting < len(self.pending) and len(self.workers) < self._size:
            actor = self._kind.remote()
            self.workers[actor.begin.remote(self._begin)] = _Worker(actor)
            starting += 1

    def answered(self, ref: Any, stop: Stop) -> Iterator[tuple[Task, Any]]:
        """Take an answer, and give the worker its next task. Yields what has ended."""
        worker = self.workers.pop(ref)
        current, worker.current = worker.current, None
        try:
            answer = ray.get(ref)
        except ray.exceptions.RayTaskError as error:  # the task or its outcome cannot be sent
            answer = Failure(_first_line(error.cause or error))
        except ray.exceptions.RayError as error:
            ray.kill(worker.actor)  # if only the network failed, the worker is still alive
            yield from self._lost(current, error, stop)
            return
        if current is None:
            _check_code(answer)
        self._num_lost_at_start = 0
        if self.pending and not stop.is_set():
            worker.current = self.pending.popleft()
            self.workers[worker.actor.run.remote(self._work, worker.current.task)] = worker
        else:
            ray.kill(worker.actor)
        if current is not None:
            yield current.task, answer

    def _lost(
        self, current: _Try[Task] | None, error: Exception, stop: Stop
    ) -> Iterator[tuple[Task, Failure]]:
        if current is None:
            self._num_lost_at_start += 1
            if self._num_lost_at_start > MAX_RETRIES:
                raise ConfigError(f"workers of Ray end before they are ready: {_first_line(error)}")
            return
        current.num_lost += 1
        if current.num_lost <= MAX_RETRIES and not stop.is_set():
            self.pending.append(current)
        else:
            times = f"its worker died {current.num_lost} times"
            yield current.task, Failure(f"{times}: it may need more memory")

    def tell_to_stop(self) -> None:
        """Ask workers with a task to end it soon, and end the others."""
        if self._is_told:
            return
        self._is_told = True
        for ref, worker in list(self.workers.items()):
            if worker.current is None:
                ray.kill(worker.actor)
                del self.workers[ref]
            else:
                worker.actor.stop.remote()

    def end(self) -> None:
        """End all workers at once."""
        for worker in self.workers.values():
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(worker.actor)


def _check_code(answer: str | Failure) -> None:
    """Refuse a worker that cannot start, or that runs other files than this command."""
    if isinstance(answer, Failure):
        raise ConfigError(f"a worker of Ray cannot start: {answer.reason}")
    if answer != code_digest():
        raise ConfigError(
            "a worker of Ray imports another pagedbench, which was installed there with --editable: "
            "uninstall it on that node"
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
