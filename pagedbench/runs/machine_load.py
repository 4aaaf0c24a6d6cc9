"""Whether a real run had the CPU time that it wanted, or shared the cores with other programs (/proc)."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_SHARE = 0.9
"""A run that got less than this share of the CPU time that it wanted counts as starved."""

MIN_FOREIGN_CORES = 0.1
"""Cores that other programs must have used: the run's own threads also wait for each other."""

NANOSECONDS = 1e9

BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of busy time in /proc/stat: user, nice, system, two kinds of interrupts, stolen by the host."""

STOLEN = 7


@dataclass(frozen=True, slots=True)
class Load:
    """Load of the machine, and CPU time of this process, over the time of a run.

    Attributes:
        wall_s: wall-clock seconds of the run.
        cpu_s: CPU time of the process, all its threads together.
        cores: cores that the process may use.
        foreign_cores: mean number of these used by others, including other virtual machines of the host.
        cpu_share: the time in which a thread ran, as a share of the time in which it could have run; the
            least over the threads that do the work.
    """

    wall_s: float
    cpu_s: float
    cores: int
    foreign_cores: float
    cpu_share: float

    @property
    def is_busy(self) -> bool:
        """Whether others used so much that the run's times say little about this program."""
        return self.cpu_share < MIN_SHARE and self.foreign_cores > MIN_FOREIGN_CORES

    @property
    def sentence(self) -> str:
        """How busy the machine was, for the reader of the run."""
        return (
            f"This machine was busy: other programs kept {self.foreign_cores:.1f} of {self.cores} cores, "
            f"and this one got {100 * self.cpu_share:.0f} % of the CPU time that it wanted. "
            "Its times say little."
        )

    def document(self) -> dict[str, object]:
        """JSON object, with the verdict."""
        return asdict(self) | {"busy": self.is_busy}


@dataclass(frozen=True, slots=True)
class _Reading:
    """Seconds since an arbitrary time in the past.

    Attributes:
        busy: busy time of all cores together, for any program.
        stolen: the part of it that the host took.
        own: CPU time of this process.
        threads: thread id -> time in which it ran, and in which it waited for a core.
    """

    busy: float
    stolen: float
    own: float
    threads: dict[str, tuple[float, float]]


class LoadMeter:
    """Measures the load from its construction on.

    Args:
        proc: the folder /proc.
        cores: numbers of the cores that this process may use.
        tick: seconds per unit of time there.
    """

    def __init__(self, proc: Path, cores: frozenset[int], tick: float) -> None:
        self._proc, self._cores, self._tick = proc, cores, tick
        self._clock, self._before = WallClock(), self._read()

    def read(self) -> Load | None:
        """The load up to now; None if the system does not report it."""
        wall, before, after = self._clock.now, self._before, self._read()
        if before is None or after is None or not wall:
            return None
        foreign = after.busy - before.busy - (after.own - before.own)
        stolen = (after.stolen - before.stolen) / len(self._cores)
        threads = [
            (ran - started[0], waited - started[1] + stolen)
            for thread, (ran, waited) in after.threads.items()
            for started in [before.threads.get(thread, (0.0, 0.0))]
        ]
        most = max((ran + waited for ran, waited in threads), default=0.0)
        workers = [(ran, waited) for ran, waited in threads if 2 * (ran + waited) >= most > 0]
        return Load(
            wall_s=wall,
            cpu_s=after.own - before.own,
            cores=len(self._cores),
            foreign_cores=max(foreign / wall, 0.0),
            cpu_share=min((ran / (ran + waited) for ran, waited in workers), default=1.0),
        )

    def _read(self) -> _Reading | None:
        try:
            process = (self._proc / "self/stat").read_text(encoding="utf-8", errors="replace")
            times = process.rpartition(")")[2].split()[11:13]  # fields 14 and 15: user mode, kernel
            columns, threads = self._columns_of_cores(), dict(self._threads())
            reading = _Reading(
                busy=self._tick * sum(core[column] for core in columns for column in BUSY),
                stolen=self._tick * sum(core[STOLEN] for core in columns),
                own=self._tick * sum(map(int, times)),
                threads=threads,
            )
        except (OSError, ValueError, IndexError):
            return None
        return reading if threads else None

    def _threads(self) -> Iterator[tuple[str, tuple[float, float]]]:
        for folder in (self._proc / "self/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                ran, waited, _ = (folder / "schedstat").read_text(encoding="ascii").split()
                yield folder.name, (int(ran) / NANOSECONDS, int(waited) / NANOSECONDS)

    def _columns_of_cores(self) -> list[list[int]]:
        wanted = {f"cpu{number}" for number in self._cores}
        lines = (self._proc / "stat").read_text(encoding="ascii").splitlines()
        rows = [words[1:] for line in lines if (words := line.split()) and words[0] in wanted]
        return [[int(word) for word in row] for row in rows]


def load_meter(device: str, proc: Path = Path("/proc")) -> LoadMeter | None:
    """A meter of this process; None for a simulated device, whose time other programs cannot take."""
    if device.startswith("sim:") or not hasattr(os, "sched_getaffinity"):
        return None
    return LoadMeter(proc, frozenset(os.sched_getaffinity(0)), 1 / os.sysconf("SC_CLK_TCK"))
