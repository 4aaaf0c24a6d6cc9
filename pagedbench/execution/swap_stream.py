"""Swaps run beside the device's other work, up to the point where both meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


class SwapStream(Protocol):
    """A queue of moves between device and host, which keep their order among themselves."""

    def run(self, move: Callable[[], None]) -> None:
        """Queue the move: behind all that the device was told so far, and beside what it is told next."""
        ...

    def join(self) -> None:
        """What the device is told from now on begins after the queued moves."""
        ...


class InLine:
    """A device without streams moves at once."""

    def run(self, move: Callable[[], None]) -> None:
        move()

    def join(self) -> None:
        pass


class CUDASwapStream:
    """A stream of its own, tied to the current one by events; the host waits for neither."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._moved: torch.cuda.Event | None = None  # recorded behind the moves that were not joined yet

    def run(self, move: Callable[[], None]) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            move()
        self._moved = self._stream.record_event()

    def join(self) -> None:
        if self._moved is not None:
            torch.cuda.current_stream(self._stream.device).wait_event(self._moved)
            self._moved = None


def swap_stream(device: torch.device) -> SwapStream:
    """The queue for a device."""
    return CUDASwapStream(device) if device.type == "cuda" else InLine()
