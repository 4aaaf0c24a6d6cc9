"""SimulatedDisk: the times of the file below the host tier, in virtual time, parallel to iterations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.memory.disk import MAX_STAGED
from pagedbench.simulation.batch_costs import num_slots

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.disk import Sleeper
    from pagedbench.memory.moves import Copy


@dataclass(frozen=True, slots=True)
class DiskSpeed:
    """A kind of disk: bytes per second of large transfers, and seconds before each begins."""

    read: float
    write: float
    latency: float
    source: str


NVME = DiskSpeed(7.0e9, 5.0e9, 100e-6, "an NVMe disk on PCIe 4: 7.0 GB/s read, 5.0 written, after 100 us")
"""Typical of data sheets of such disks for data centres and workstations (6.8-7.4 and 4.0-6.9 GB/s)."""


class SimulatedDisk:
    """Reads and writes in parallel, each in order; a read follows the writes of what it reads."""

    def __init__(self, clock: Sleeper, slot_bytes: int, speed: DiskSpeed = NVME) -> None:
        """`slot_bytes`: bytes of a token's keys and values, on all ranks."""
        self._clock = clock
        self._slot_bytes = slot_bytes
        self._speed = speed
        self._written = 0.0  # when the latest write ends
        self._write_ends: dict[int, float] = {}  # slot of the disk -> when it is written
        self._read_ends: float | None = None  # when the read under way ends

    @property
    def room(self) -> int:
        staged = max(self._written - self._clock.now, 0.0) * self._speed.write
        return int((MAX_STAGED - staged) / self._slot_bytes)

    def write(self, copies: Items[Copy]) -> None:
        start = max(self._written, self._clock.now)
        self._written = start + self._seconds(copies, self._speed.write)
        self._write_ends.update((copy.destination, self._written) for copy in copies)

    def read(self, copies: Items[Copy]) -> None:
        assert self._read_ends is None, "two reads at a time"
        ends = [self._write_ends.get(copy.source, 0.0) for copy in copies]
        self._read_ends = max(self._clock.now, *ends) + self._seconds(copies, self._speed.read)

    def _seconds(self, copies: Items[Copy], bandwidth: float) -> float:
        return self._speed.latency + num_slots(copies) * self._slot_bytes / bandwidth

    def poll(self) -> bool | None:
        if self._read_ends is None or self._clock.now < self._read_ends:
            return None
        self._read_ends = None
        return True

    def wait(self, clock: Sleeper, until: float | None) -> bool:
        if self._read_ends is None:
            return False
        clock.sleep_until(self._read_ends if until is None else min(self._read_ends, until))
        return True

    def close(self) -> None:
        pass
