"""What a worker process is told, and what it says afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.loadgen.target import Reached
    from pagedbench.loadgen.wire import Call


@dataclass(frozen=True, slots=True)
class Job:
    """The part of a run that one worker does.

    Attributes:
        calls: whole sessions.
        timeout: seconds from a call's scheduled time within which its reply must end.
        num_clients: of a closed loop; None: calls are sent when they are due.
    """

    reached: Reached
    calls: list[Call]
    timeout: float
    num_clients: int | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker can begin."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life: calls that have not ended yet."""

    num_left: int


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """How a worker did its part.

    Attributes:
        wall_s, cpu_s: time and processor time from its first look at the clock to its last.
        waited_s: time in which it waited for a core; 0 where the system does not say.
        num_opened: connections.
        was_full: whether calls had to wait because no more sockets could be opened.
    """

    wall_s: float
    cpu_s: float
    num_opened: int
    was_full: bool
    waited_s: float = 0.0

    @property
    def cpu_share(self) -> float:
        """Of the time in which it could have run, the part in which it did."""
        wanted = self.cpu_s + self.waited_s
        return self.cpu_s / wanted if wanted else 1.0


@dataclass(frozen=True, slots=True)
class Crash:
    """The worker has failed, and says why in a sentence."""

    reason: str
