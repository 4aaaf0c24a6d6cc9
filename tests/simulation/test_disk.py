"""How long a simulated disk takes."""

from __future__ import annotations

import pytest

from pagedbench.clock import VirtualClock
from pagedbench.memory.moves import Copy, Pool
from pagedbench.simulation.disk import MAX_STAGED, DiskSpeed, SimulatedDisk

SPEED = DiskSpeed(read=1000.0, write=500.0, latency=0.5, source="made up")
TOKEN = 10
"""Bytes of a token."""


def disk_of() -> tuple[SimulatedDisk, VirtualClock]:
    clock = VirtualClock(lambda batch: 0.0)
    return SimulatedDisk(clock, TOKEN, SPEED), clock


def write(place: int, size: int) -> list[Copy]:
    return [Copy(0, place, size, Pool.HOST_CACHE, Pool.DISK)]


def read(place: int, size: int) -> list[Copy]:
    return [Copy(place, 0, size, Pool.DISK, Pool.HOST_CACHE)]


def test_a_read_takes_latency_and_bytes_over_bandwidth() -> None:
    disk, clock = disk_of()
    clock.now = 3.0
    disk.read(read(0, 100))
    assert disk.poll() is None
    assert disk.wait(clock, 4.0)  # an arrival comes before it
    assert (clock.now, disk.poll()) == (4.0, None)
    assert disk.wait(clock, None)
    assert clock.now == pytest.approx(3.0 + 0.5 + 1.0)
    assert (disk.poll(), disk.poll()) == (True, None)
    assert not disk.wait(clock, 9.0)


def test_a_read_follows_the_write_of_what_it_reads_and_no_other() -> None:
    disk, clock = disk_of()
    disk.write(write(0, 100))  # until 2.5
    disk.write(write(200, 100))  # until 5.0
    disk.read(read(0, 100))
    disk.wait(clock, None)
    assert clock.now == pytest.approx(2.5 + 1.5)
    assert disk.poll()
    disk.read(read(500, 100))
    disk.wait(clock, None)
    assert clock.now == pytest.approx(4.0 + 1.5)


def test_writes_pile_up_to_a_limit() -> None:
    disk, clock = disk_of()
    most = disk.room
    assert most == MAX_STAGED // TOKEN
    disk.write(write(0, most))
    assert disk.room <= 0
    clock.now = 1e9
    assert disk.room == most
