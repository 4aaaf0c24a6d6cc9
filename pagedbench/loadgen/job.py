"""The messages between a worker process and its parent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.loadgen.target import Reached
    from pagedbench.loadgen.wire import Call


@dataclass(frozen=True, slots=True)
class Job:
    """One worker's share of a run.

    Attributes:
        calls: the calls of whole sessions.
        timeout: seconds from a call's scheduled time within which its reply must end.
        num_clients: clients of a closed loop; None: calls are sent when they are due.
    """

    reached: Reached
    calls: list[Call]
    timeout: float
    num_clients: int | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker is ready to start."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life: the number of calls that have not ended."""

    num_left: int


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """A worker's report at its end.

    Attributes:
        wall_s, cpu_s: time and CPU time from the start to the end of its run.
        waited_s: time in which it waited for a core; 0 if the system does not report it.
        num_opened: connections that it opened.
        was_full: did calls have to wait because no more sockets could be opened?
    """

    wall_s: float
    cpu_s: float
    num_opened: int
    was_full: bool
    waited_s: float = 0.0

    @property
    def cpu_share(self) -> float:
        """The time in which it ran, as a share of the time in which it could have run."""
        wanted = self.cpu_s + self.waited_s
        return self.cpu_s / wanted if wanted else 1.0


@dataclass(frozen=True, slots=True)
class Crash:
    """The worker has failed, for the reason in a sentence."""

    reason: str
