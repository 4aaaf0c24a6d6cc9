"""Meters of the load of this machine, see `metrics.load`; Linux tells it in /proc."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.clock import WallClock
from pagedbench.runs.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator

NANOSECONDS = 1e9

BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of a core in /proc/stat: user, nice, system, interrupts of both kinds, and stolen by the host."""

STOLEN = 7


@dataclass(frozen=True, slots=True)
class _Reading:
    """Seconds since some time in the past.

    Attributes:
        busy: in which the cores worked for anybody, all of them together.
        stolen: the part of it that the host took.
        own: CPU time of this process.
        threads: id -> time in which it ran, and in which it waited for a core.
    """

    busy: float
    stolen: float
    own: float
    threads: dict[str, tuple[float, float]]


class LoadMeter:
    """Measures from its making on.

    Args:
        proc: where the system tells about processes.
        cores: the numbers of those that this process may use.
        tick: seconds of a unit of time there.
    """

    def __init__(self, proc: Path, cores: frozenset[int], tick: float) -> None:
        self._proc, self._cores, self._tick = proc, cores, tick
        self._clock, self._before = WallClock(), self._read()

    def read(self) -> Load | None:
        """The load up to now; None where the system does not tell it."""
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
            columns = self._columns_of_cores()
            process = (self._proc / "self/stat").read_text(encoding="utf-8", errors="replace")
            times = process.rpartition(")")[2].split()[
                11:13
            ]  # fields 14 and 15: in user mode, in the kernel
            threads = dict(self._threads())
            if not threads:
                return None
            return _Reading(
                busy=self._tick * sum(core[column] for core in columns for column in BUSY),
                stolen=self._tick * sum(core[STOLEN] for core in columns),
                own=self._tick * sum(map(int, times)),
                threads=threads,
            )
        except (OSError, ValueError, IndexError):
            return None

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
    """Of this process, from now on; none for a simulated device, whose time nobody can take."""
    if device.startswith("sim:") or not hasattr(os, "sched_getaffinity"):
        return None
    return LoadMeter(proc, frozenset(os.sched_getaffinity(0)), 1 / os.sysconf("SC_CLK_TCK"))
