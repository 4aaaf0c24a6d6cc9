"""Heartbeats: they find a rank that died or hangs within seconds, and no process outlives the run."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from pagedbench.clock import WallClock
from pagedbench.errors import RankError
from pagedbench.execution.parallel.progress import Standing, Stragglers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from subprocess import Popen

    from pagedbench.execution.parallel.progress import Progress

BEAT = 0.5
"""Seconds between the heartbeats of a rank."""

SILENCE = 8.0
"""Seconds without a heartbeat after which a rank counts as hanging; a busy machine may be a few late."""

STOPPED = 0.5
"""Seconds after which a rank that the operating system has stopped is given up."""

START = 180.0
"""Seconds that a rank may take until its first heartbeat: it imports torch first."""

PATIENCE = SILENCE + 1.0
"""Seconds to look for the rank at fault after an exchange has failed."""

LOST = 75
"""Exit code of a rank that has lost the others, and is not the one at fault."""

PR_SET_PDEATHSIG = 1


class Heart:
    """Sends a computing rank's heartbeats. If rank 0 is gone, it ends the process, whatever it is doing."""

    def __init__(self, store: Any, rank: int, progress: Progress) -> None:
        self._store = store
        self._rank = rank
        self._progress = progress
        threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()

    def _beat(self) -> None:
        number = 0
        while True:
            number += 1
            try:
                self._store.set(_beat_of(self._rank), f"{number} {self._progress.standing}")
            except Exception:  # the store is gone
                os._exit(LOST)
            time.sleep(BEAT)

    def confess(self, error: BaseException) -> None:
        """Tell rank 0 why this rank is about to end."""
        self._store.set(_fault_of(self._rank), f"{type(error).__name__}: {' '.join(str(error).split())}")


class Watch:
    """Listens, in rank 0, to the heartbeats of all other ranks.

    Attributes:
        failure: the rank that was lost and why, in a sentence; None while all are alive.
    """

    def __init__(
        self,
        store: Any,
        num_ranks: int,
        children: Mapping[int, Popen[bytes]],
        progress: Progress,
        on_loss: Callable[[], None],
    ) -> None:
        """Begin to listen.

        Args:
            children: the processes of the ranks that this one has started.
            progress: that of this rank.
        """
        self.failure: str | None = None
        self._store = store
        self._num_ranks = num_ranks
        self._children = children
        self._progress = progress
        self._stragglers = Stragglers()
        self._on_loss = on_loss
        self._running = dict.fromkeys(range(1, num_ranks), math.inf)  # rank -> when it last ran
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True, name="heartbeats")
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._is_over.set()
        self._thread.join()

    def explain(self, error: BaseException | None) -> None:
        """Raise an error that names the lost rank; given an error, wait until the rank is known.

        Raises:
            RankError: a rank is lost.
        """
        clock = WallClock()
        while error is not None and self.failure is None and clock.now < PATIENCE:
            time.sleep(BEAT / 10)
        if self.failure is not None:
            raise RankError(self.failure) from error

    def _listen(self) -> None:
        clock = WallClock()
        last, beats = clock.now, dict.fromkeys(range(1, self._num_ranks), "")
        heard = dict.fromkeys(beats, clock.now + START - SILENCE)
        while not self._is_over.wait(BEAT / 2):
            now = clock.now
            if now - last > SILENCE / 2:  # this process itself was stopped, perhaps with all others
                heard = {rank: max(when, now) for rank, when in heard.items()}
                self._running = dict.fromkeys(self._running, now)
                self._stragglers.restart()
            last = now
            for rank in beats:
                beat = self._read(_beat_of(rank))
                if beat != beats[rank]:
                    beats[rank], heard[rank] = beat, now
                if not _is_stopped(self._children.get(rank)):
                    self._running[rank] = now
            silence = {rank: now - when for rank, when in heard.items()}
            others = {rank: Standing.parsed(beat.partition(" ")[2]) for rank, beat in beats.items()}
            late = self._stragglers.late(self._progress, others, now)
            self.failure = self._find(silence, late, now)
            if self.failure is not None:
                self._on_loss()
                return

    def _find(self, silence: Mapping[int, float], late: Mapping[int, float], now: float) -> str | None:
        """The rank at fault, in a sentence."""
        for rank, seconds in silence.items():
            process = self._children.get(rank)
            name = f"rank {rank} of {self._num_ranks}" + (f" (process {process.pid})" if process else "")
            if fault := self._read(_fault_of(rank)):
                return f"{name} failed with {fault}"
            code = None if process is None else process.poll()
            if code is not None and code != LOST:
                return f"{name} {_ending(code)}"
            if now - self._running[rank] > STOPPED:
                return f"{name} was stopped, by a signal or a debugger"
            if seconds > SILENCE:
                return f"{name} hangs: it sent no heartbeat for {seconds:.0f} s"
            if rank in late:
                return f"{name} hangs: the others have waited for it for {late[rank]:.0f} s"
        return None

    def _read(self, key: str) -> str:
        """A value of the store; empty if there is none, and while the store does not answer."""
        try:
            return self._store.get(key).decode() if self._store.check([key]) else ""
        except Exception:  # the machine that keeps it is gone: then no heartbeat arrives either
            return ""


def end_with(parent: int) -> None:
    """Let the operating system end this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(LOST)


def _is_stopped(process: Popen[bytes] | None) -> bool:
    """Is a process of this machine stopped (Linux)?"""
    if process is None or sys.platform != "linux":
        return False
    try:
        with open(f"/proc/{process.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in ("T", "t")
    except OSError:  # it has ended
        return False


def _ending(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _beat_of(rank: int) -> str:
    return f"beat/{rank}"


def _fault_of(rank: int) -> str:
    return f"fault/{rank}"
