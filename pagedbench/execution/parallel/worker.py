"""A computing rank: it does what rank 0 says until it is told to stop, and prints nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import torch

from pagedbench.execution.parallel.connect import Address, connected
from pagedbench.execution.parallel.group import RankGroup
from pagedbench.execution.parallel.layout import threads_of_torchrun
from pagedbench.execution.parallel.messages import (
    DropEngine,
    EndRead,
    Load,
    NewEngine,
    ReadDisk,
    Step,
    Stop,
    WriteDisk,
)
from pagedbench.execution.parallel.part import EnginePart, Part
from pagedbench.execution.parallel.progress import Progress
from pagedbench.execution.parallel.watch import LOST, PATIENCE, Heart, end_with

if TYPE_CHECKING:
    from pagedbench.execution.parallel.messages import Message


class Worker:
    """Holds one rank's part, and the engines that run on it."""

    def __init__(self, group: RankGroup) -> None:
        self._group = group
        self._part: Part | None = None
        self._engines: dict[int, EnginePart] = {}

    def run(self) -> None:
        """Do what rank 0 says, until `Stop`."""
        while not isinstance(message := self._group.receive(), Stop):
            with self._group.progress.excused(not isinstance(message, Step)):
                self._do(message)

    def _do(self, message: Message) -> None:
        match message:
            case Step(engine):
                self._engines[engine].runner.run(message.received)
            case Load():
                self._engines.clear()
                self._part = None  # freed first: two models need not fit together
                self._part = Part(message, self._group)
                self._group.all_agree(True)
            case NewEngine(engine):
                assert self._part is not None, "no model is loaded"
                self._engines[engine] = self._part.engine(message)
                self._group.all_agree(True)
            case DropEngine(engine):
                self._engines.pop(engine, None)
            case EndRead(engine):
                self._group.all_agree(self._engines[engine].end_read())
            case WriteDisk(engine, copies) | ReadDisk(engine, copies):
                disk = self._engines[engine].disk
                assert disk is not None, "the engine has no disk"
                (disk.write if isinstance(message, WriteDisk) else disk.read)(copies)


def compute(address: Address) -> None:
    """Be a rank until the run is over; then the process ends.

    A terminal's signals reach all processes of a run; only rank 0 reacts.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(address.threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(address.local_rank % torch.cuda.device_count())
    code, store = 0, connected(address)
    progress = Progress()
    heart = Heart(connected(address), address.rank, progress)
    try:
        group = RankGroup(
            store,
            address.rank,
            address.num_ranks,
            is_local=address.is_local,
            progress=progress,
            explain=lambda _: None,
        )
        Worker(group).run()
    except RuntimeError as error:
        code = LOST if _is_of_exchange(error) else 1
        if code == LOST:
            time.sleep(PATIENCE)  # heartbeats go on, so that this rank is not taken for the one at fault
        else:
            heart.confess(error)
    except BaseException as error:
        code = 1
        heart.confess(error)
    finally:
        os._exit(code)


def compute_for_torchrun() -> None:
    """Be the rank that torchrun has started, without printing."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    compute(Address.of_torchrun(threads_of_torchrun()))


def _is_of_exchange(error: RuntimeError) -> bool:
    """Did an exchange fail because another rank is gone?"""
    return "gloo" in str(error) or "NCCL" in str(error)


if __name__ == "__main__":
    _rank, _num_ranks, _port, _threads, _parent = map(int, sys.argv[1:])
    end_with(_parent)
    compute(Address(_rank, _num_ranks, "127.0.0.1", _port, _threads))
