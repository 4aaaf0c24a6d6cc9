"""Meters of the pace of memory, see `metrics.pace`."""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any, Protocol

from pagedbench.clock import WallClock
from pagedbench.experiments.machine_limits import rotation_bytes
from pagedbench.metrics.pace import alike

if TYPE_CHECKING:
    from pagedbench.metrics.pace import Pace


WAIT_S = 0.5


class PaceMeter(Protocol):
    """Reads the pace of this moment; None where it cannot be read, or does not change."""

    def read(self) -> Pace | None: ...


class NoMeter:
    """Of an accelerator, whose memory is its own, and where the native module was not built."""

    def read(self) -> None:
        return None


class CpuMeter:
    """Reads memory beyond the caches on all threads, which takes a few milliseconds."""

    def __init__(self, native: Any, num_bytes: int, num_threads: int) -> None:
        self._memory = native.ReadProbe(num_bytes)
        self._num_threads = num_threads

    def read(self) -> Pace:
        clock = WallClock()
        self._memory.read(1, self._num_threads)
        return float(self._memory.num_bytes / clock.now)


def pace_meter(device: str) -> PaceMeter:
    """The meter of the device."""
    if device != "cpu":
        return NoMeter()
    import torch  # before the native module, so that both share one pool of threads

    try:
        native = importlib.import_module("pagedbench.kernels._cpu")
    except ImportError:
        return NoMeter()
    return CpuMeter(native, rotation_bytes("cpu"), torch.get_num_threads())


def read_pace(device: str) -> Pace | None:
    """One reading, whose memory is given back: a run shall not share the machine with it."""
    return pace_meter(device).read()


def wait_for(meter: PaceMeter, pace: Pace | None, patience: float) -> float:
    """Sleep until the memory is read at the pace, or for `patience` seconds. Returns the seconds waited."""
    clock = WallClock()
    while not alike(meter.read(), pace) and clock.now < patience:
        time.sleep(WAIT_S)
    return clock.now
