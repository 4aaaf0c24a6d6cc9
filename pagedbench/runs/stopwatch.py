"""How long calls take: by the wall clock on a CPU, by events on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pagedbench.clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable


class Stopwatch(Protocol):
    """Times consecutive calls."""

    def seconds(self, run: Callable[[int], object], calls: range, num_sets: int) -> float:
        """The time of all calls together; call i uses the operands i modulo `num_sets`."""
        ...


class WallStopwatch:
    """Times calls that return when their work is done."""

    def seconds(self, run: Callable[[int], object], calls: range, num_sets: int) -> float:
        clock = WallClock()
        for call in calls:
            run(call % num_sets)
        return clock.now


class CudaStopwatch:
    """Times calls that only queue their work, by events on the stream."""

    def seconds(self, run: Callable[[int], object], calls: range, num_sets: int) -> float:
        import torch

        begin, end = (torch.Event("cuda", enable_timing=True) for _ in range(2))
        begin.record()
        for call in calls:
            run(call % num_sets)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000.0


def stopwatch_of(device: str) -> Stopwatch:
    """The stopwatch for a device."""
    return CudaStopwatch() if device == "cuda" else WallStopwatch()
