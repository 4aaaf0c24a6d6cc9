"""How long calls take: by the wall clock on a CPU, by events on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pagedbench.clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_QUEUED = 64
"""Calls that are queued at a time: a stream holds about a thousand launches."""

MAX_CLOCK_RATE = 2.0e9
"""Cycles per second that no GPU exceeds by much."""


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
    """Times calls that only queue their work, by events on the stream: the device's time, as in a graph.

    The device waits until the host has queued some calls, so that it never waits for a launch; a call that
    itself waits for the device is timed with what it takes the host.
    """

    def seconds(self, run: Callable[[int], object], calls: range, num_sets: int) -> float:
        import torch

        total = 0.0
        for first in range(0, len(calls), MAX_QUEUED):
            sets = [call % num_sets for call in calls[first : first + MAX_QUEUED]]
            clock = WallClock()
            for number in sets:
                run(number)
            host_time = clock.now
            torch.cuda.synchronize()
            begin, end = (torch.Event("cuda", enable_timing=True) for _ in range(2))
            torch.cuda._sleep(int(2 * host_time * MAX_CLOCK_RATE))  # type: ignore[no-untyped-call]
            begin.record()
            for number in sets:
                run(number)
            end.record()
            end.synchronize()
            total += float(begin.elapsed_time(end)) / 1000.0
        return total


def stopwatch_of(device: str) -> Stopwatch:
    """The stopwatch for a device."""
    return CudaStopwatch() if device == "cuda" else WallStopwatch()
