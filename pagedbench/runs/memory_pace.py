"""Meters of the pace of memory, see `metrics.pace`."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pagedbench.clock import WallClock
from pagedbench.runs.pace import alike

if TYPE_CHECKING:
    from pagedbench.runs.pace import Pace


ASSUMED_CACHE_BYTES = 32 * 2**20
"""Of the last level, where the system does not say."""

CACHES_IN_FOOTPRINT = 4
"""The operands in rotation take this many times the last-level cache."""

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


def rotation_bytes(device: str) -> int:
    """Bytes to rotate over, so that operands come from memory and not from a cache."""
    if device == "cuda":
        import torch

        return CACHES_IN_FOOTPRINT * int(torch.cuda.get_device_properties(0).L2_cache_size)
    return CACHES_IN_FOOTPRINT * last_level_cache_bytes()


def last_level_cache_bytes(place: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """The largest cache that the system tells of."""
    sizes = [ASSUMED_CACHE_BYTES]
    for path in place.glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        if text.endswith("K") and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * 2**10)
        elif text.endswith("M") and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * 2**20)
    return max(sizes)
