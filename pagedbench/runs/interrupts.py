"""Ctrl-C: the first one ends the run after its present iteration, the second one at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from pagedbench.runs.signals import SIGNALS, interrupt

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

NOTICE = b"\nStopping after this iteration and saving what has ended; once more to stop at once.\n"


class Interrupts:
    """Calls `stop` on the first signal within the `with` block; raises KeyboardInterrupt on the second."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self.received = False
        self._stop = stop
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            interrupt(number, frame)
        self.received = True
        self._stop()
        os.write(2, NOTICE)  # print() is not safe inside a signal handler
