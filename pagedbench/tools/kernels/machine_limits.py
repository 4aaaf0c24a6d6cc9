"""The limits of the machine, measured together with the kernels; None: cannot be measured."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pagedbench.clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.tools.kernels.cases import Work

STREAMS = (1, 4, 8)
"""Numbers of streams that a thread reads alternately; which is fastest differs between machines."""

NUM_TRIES = 5
PROBE_STEPS = 400_000
"""Steps of 16 multiply-adds each: some milliseconds."""

COPY_BYTES = 2**30
PRODUCT_SIZE = 8192


class Bound(StrEnum):
    """Which limit of the machine binds an op."""

    MEMORY = "memory"
    ARITHMETIC = "arithmetic"


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """Bytes per second that can be read, and FLOPs per second by dtype; None: not measured."""

    read_bandwidth: float | None = None
    float32: float | None = None
    bfloat16: float | None = None
    float16: float | None = None

    def peak(self, dtype: str) -> float | None:
        """FLOPs per second. If there is no instruction for 16-bit products, the limit is float32's."""
        own: float | None = getattr(self, dtype)
        return self.float32 if own is None else own

    def or_more(self, other: MachineLimits) -> MachineLimits:
        """The higher of two measurements of each limit."""
        values = ((getattr(self, item.name), getattr(other, item.name)) for item in fields(self))
        return MachineLimits(*(max((one for one in pair if one), default=None) for pair in values))

    def least_time(self, work: Work, dtype: str) -> tuple[float, Bound] | None:
        """The least seconds for the work, and which limit binds."""
        peak = self.peak(dtype)
        if self.read_bandwidth is None or (work.flops and peak is None):
            return None
        arithmetic = work.flops / peak if peak else 0.0
        return max((work.num_bytes / self.read_bandwidth, Bound.MEMORY), (arithmetic, Bound.ARITHMETIC))


class LimitProbe(Protocol):
    """Measures the current limits: those of a virtual machine may change within seconds."""

    def measure(self) -> MachineLimits: ...


class NoProbe:
    """Replaces a probe if the native module was not built."""

    def measure(self) -> MachineLimits:
        return MachineLimits()


class CpuProbe:
    """The native module's probes, on as many threads as torch uses.

    Memory is read from huge pages in several streams per thread; multiply-adds use only registers.
    """

    def __init__(self, native: Any, num_bytes: int, num_threads: int) -> None:
        self._native = native
        self._num_threads = num_threads
        self._memory = native.ReadProbe(num_bytes, num_threads, [])
        self._streams = min(STREAMS, key=self._read_time)

    def measure(self) -> MachineLimits:
        return MachineLimits(
            self._memory.num_bytes / self._read_time(self._streams),
            self._multiply_add(is_bfloat16=False),
            self._multiply_add(is_bfloat16=True),
        )

    def _read_time(self, streams: int) -> float:
        return _least_time(lambda: self._memory.read(streams, self._num_threads))

    def _multiply_add(self, *, is_bfloat16: bool) -> float | None:
        run = partial(self._native.multiply_add, is_bfloat16, PROBE_STEPS, self._num_threads)
        flops: int | None = run()
        return None if flops is None else flops / _least_time(run)


class CudaProbe:
    """A large copy, and large products by the vendor's library."""

    def __init__(self) -> None:
        self._peaks = {name: self._product_rate(name) for name in ("float32", "bfloat16", "float16")}

    def measure(self) -> MachineLimits:
        """The current bandwidth; products are timed only once, at the beginning."""
        import torch

        source, target = torch.empty(2, COPY_BYTES, dtype=torch.uint8, device="cuda").unbind()
        rate = 2 * COPY_BYTES / self._least_time(lambda number: target.copy_(source))
        return MachineLimits(rate, **self._peaks)

    def _product_rate(self, dtype: str) -> float:
        import torch

        matrix = torch.ones(PRODUCT_SIZE, PRODUCT_SIZE, dtype=getattr(torch, dtype), device="cuda")
        out = torch.empty_like(matrix)
        return 2 * PRODUCT_SIZE**3 / self._least_time(lambda number: torch.mm(matrix, matrix, out=out))

    def _least_time(self, run: Callable[[int], object]) -> float:
        from pagedbench.runs.stopwatch import CudaStopwatch

        return min(CudaStopwatch().seconds(run, range(1), 1) for _ in range(NUM_TRIES))


def _least_time(run: Callable[[], object]) -> float:
    """Seconds of the fastest of several tries: a limit is what the machine can do, not what it does."""

    def seconds() -> float:
        clock = WallClock()
        run()
        return clock.now

    return min(seconds() for _ in range(NUM_TRIES))


def limit_probe(device: str, footprint: int) -> LimitProbe:
    """The probe of the device; if it has none, one that measures nothing."""
    import torch  # before the native module, so that both share one pool of threads

    if device == "cuda":
        return CudaProbe()
    try:
        native = importlib.import_module("pagedbench.kernels._cpu")
    except ImportError:
        return NoProbe()
    return CpuProbe(native, footprint, torch.get_num_threads())
