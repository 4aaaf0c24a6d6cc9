"""Starting and ending the ranks of a run: its own processes, or those that torchrun has started."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from pagedbench.execution.parallel.connect import Address, connected
from pagedbench.execution.parallel.group import RankGroup
from pagedbench.execution.parallel.leader import Leader
from pagedbench.execution.parallel.messages import Stop
from pagedbench.execution.parallel.progress import Progress
from pagedbench.execution.parallel.watch import Watch

if TYPE_CHECKING:
    from subprocess import Popen

    from pagedbench.execution.parallel.layout import RankLayout

LOOPBACK = "127.0.0.1"

END = 5.0
"""Seconds that ranks are given to end by themselves."""


class RunningRanks:
    """The ranks of a run, started and connected."""

    def __init__(self, layout: RankLayout) -> None:
        """Start them.

        Raises:
            RankError: one of them ended before it was ready.
        """
        self.layout = layout
        self.children: dict[int, Popen[bytes]] = {}
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(layout.threads)
        if layout.is_torchrun:
            address = Address.of_torchrun(layout.threads)
            store = connected(address, serves=not address.has_server)
        else:
            address = Address(0, layout.num_ranks, LOOPBACK, 0, layout.threads)
            store = connected(address, serves=True)
            address = replace(address, port=store.port)
            for rank in range(1, layout.num_ranks):
                self.children[rank] = _start(replace(address, rank=rank))
        atexit.register(self.close)
        progress = Progress(is_excused=True)
        self._watch = Watch(connected(address), layout.num_ranks, self.children, progress, self._on_loss)
        self._group: RankGroup | None = None
        try:
            self._group = RankGroup(
                store,
                0,
                layout.num_ranks,
                is_local=address.is_local,
                progress=progress,
                explain=self._watch.explain,
            )
        except BaseException:
            self.close()
            raise
        self.leader = Leader(self._group)

    @property
    def is_usable(self) -> bool:
        """Are all ranks waiting for a message?"""
        return self._watch.failure is None and self.leader.is_in_step

    def close(self) -> None:
        """End all ranks; those that are not waiting for a message are killed."""
        atexit.unregister(self.close)
        self._watch.close()
        if self._group is not None and self.is_usable:
            with self.leader.told(Stop()):
                pass
            self.leader.is_in_step = False
        else:
            self._kill()
        for process in self.children.values():
            try:
                process.wait(END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        torch.set_num_threads(self._threads_before)

    def _on_loss(self) -> None:
        """After the loss of a rank: end the others, which are useless, and this rank's wait for them."""
        self._kill()
        if self._group is not None:
            self._group.abort()

    def _kill(self) -> None:
        for process in self.children.values():
            process.kill()


def _start(address: Address) -> Popen[bytes]:
    """Start a rank on this machine, in its own session, so that Ctrl-C reaches only rank 0."""
    numbers = (address.rank, address.num_ranks, address.port, address.threads, os.getpid())
    shows = os.environ.get("PAGEDBENCH_DEBUG") == "1"
    return subprocess.Popen(
        [sys.executable, "-m", "pagedbench.execution.parallel.worker", *map(str, numbers)],
        env={**os.environ, "OMP_NUM_THREADS": str(address.threads)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if shows else subprocess.DEVNULL,
        start_new_session=True,
    )


_running: list[RunningRanks] = []  # of this process, one at most


def ranks_of(layout: RankLayout) -> RunningRanks:
    """The ranks of this process in a layout. They are started once, and run one model after another.

    Raises:
        RankError: one of them ended before it was ready.
    """
    if _running and (_running[0].layout != layout or not _running[0].is_usable):
        _running.pop().close()
    if not _running:
        _running.append(RunningRanks(layout))
    return _running[0]
