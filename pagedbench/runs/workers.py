"""Workers: where the tasks of a command run, in processes of this machine or of a Ray cluster."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.machine import install_command
from pagedbench.runs.parallel import checked_jobs, in_processes, in_this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pagedbench.runs.parallel import Failure, Outcome, Stop, Task


class Executor(StrEnum):
    """How tasks are run."""

    LOCAL = "local"
    RAY = "ray"


ExecutorOption = Annotated[
    str, typer.Option(help="What makes the runs: local processes, or ray.", rich_help_panel="Results")
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="With --executor ray: auto, or HOST:PORT of a cluster that this machine is a node of "
        "\\[a Ray of the command's own, which ends with it].",
        show_default=False,
        rich_help_panel="Results",
    ),
]


@dataclass(frozen=True, slots=True)
class Workers:
    """How tasks are run, and how many at a time.

    Attributes:
        jobs: the number of tasks at a time; None: one per core of the cluster.
        ray_address: address of an existing cluster; None: a Ray that starts and ends with the command.
    """

    executor: Executor
    jobs: int | None
    ray_address: str | None = None

    @property
    def on_ray(self) -> bool:
        return self.executor is Executor.RAY


def checked_workers(
    executor: str, ray_address: str | None, jobs: int | None, *, is_simulated: bool
) -> Workers:
    """What `--executor`, `--ray-address` and `--jobs` ask for.

    Raises:
        ConfigError: they contradict each other, Ray is not installed, or it would use a real device.
    """
    if executor not in list(Executor):
        raise ConfigError(f"--executor is one of {', '.join(Executor)}, not {executor!r}")
    if executor == Executor.LOCAL:
        if ray_address is not None:
            raise ConfigError("--ray-address has no effect without --executor ray")
        return Workers(Executor.LOCAL, checked_jobs(jobs, is_simulated=is_simulated))
    if not is_simulated:
        raise ConfigError("--executor ray takes simulated devices only: workers would share a real one")
    if find_spec("ray") is None:
        command = install_command(shlex.quote("pagedbench[ray]"))
        raise ConfigError(f"--executor ray needs Ray, which is the extra [ray]: {command}")
    if ray_address is not None and ray_address != "auto":
        from pagedbench.runs.ray_cluster import check_address

        check_address(ray_address)
    number = None if jobs is None and ray_address is not None else checked_jobs(jobs, is_simulated=True)
    return Workers(Executor.RAY, number, ray_address)


@contextlib.contextmanager
def connected(workers: Workers) -> Iterator[None]:
    """Within the block, `workers` can be used. A Ray that it starts ends with it.

    Raises:
        ConfigError: there is no such cluster.
    """
    if not workers.on_ray:
        yield
        return
    from pagedbench.runs.ray_cluster import ray_of

    with ray_of(workers.ray_address, workers.jobs):
        yield


def in_workers(
    work: Callable[[Task, Stop], Outcome], tasks: Iterable[Task], workers: Workers, stop: Stop,
    *, apart: bool = False, begin: Callable[[], object] | None = None,
) -> Iterator[tuple[Task, Outcome | Failure]]:  # fmt: skip
    """Every task with its outcome, as they end; see `in_processes`.

    Args:
        apart: use other processes even for one task at a time.
        begin: importable by name; called by each worker of a cluster before its first task.
    """
    if workers.on_ray:
        from pagedbench.runs.ray_tasks import on_ray

        return on_ray(work, tasks, workers.jobs, stop, begin)
    assert workers.jobs is not None, "only Ray knows how many cores it has"
    if workers.jobs == 1 and not apart:
        return in_this_process(work, tasks, stop)
    return in_processes(work, tasks, workers.jobs, stop)
