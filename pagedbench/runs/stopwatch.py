"""How long calls take: by the wall clock on a CPU, by events on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pagedbench.clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUED_CALLS, QUEUEING_CYCLES = 64, 20_000_000
"""So many calls are queued while a GPU waits, which then has at least 10 ms."""


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
    """Times calls that only queue their work, by events: the device's time, not that of launches."""

    def seconds(self, run: Callable[[int], object], calls: range, num_sets: int) -> float:
        import torch

        wait: Callable[[int], object] = torch.cuda._sleep
        total = 0.0
        for first in range(0, len(calls), QUEUED_CALLS):
            begin, end = (torch.Event("cuda", enable_timing=True) for _ in range(2))
            wait(QUEUEING_CYCLES)
            begin.record()
            for call in calls[first : first + QUEUED_CALLS]:
                run(call % num_sets)
            end.record()
            end.synchronize()
            total += float(begin.elapsed_time(end)) / 1000.0
        return total


def stopwatch_of(device: str) -> Stopwatch:
    """The stopwatch for a device."""
    return CudaStopwatch() if device == "cuda" else WallStopwatch()
