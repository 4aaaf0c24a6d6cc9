"""Leader: rank 0 leads the others: whatever it does to its own part, it first tells them to do."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from pagedbench.errors import RankError
from pagedbench.execution.parallel.messages import (
    DropEngine,
    EndRead,
    Load,
    Message,
    NewEngine,
    ReadDisk,
    Step,
    WriteDisk,
)
from pagedbench.execution.parallel.part import Part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Items

    from pagedbench.execution.disk_file import DiskFile
    from pagedbench.execution.model_runner import PoolLayout
    from pagedbench.execution.parallel.group import RankGroup
    from pagedbench.execution.parallel.part import EnginePart
    from pagedbench.execution.step_inputs import StepInputs, StepOutputs
    from pagedbench.memory.disk import Sleeper
    from pagedbench.memory.moves import Copy


class Leader:
    """Sends messages. After an exception the ranks are no longer in step, and no message is sent.

    Attributes:
        is_in_step: are all ranks waiting for a message?
    """

    def __init__(self, group: RankGroup) -> None:
        self.group = group
        self.is_in_step = True
        self._numbers = count()
        self._dropped: list[int] = []  # engines that are gone here, but not yet on the other ranks

    @contextmanager
    def told(self, message: Message) -> Iterator[int]:
        """Let all ranks do what the message says, this one in the block. Yields the bytes sent to each."""
        if not self.is_in_step:
            raise RankError("the ranks are not in step since the last error")
        self.is_in_step = False
        while self._dropped:
            self.group.broadcast(DropEngine(self._dropped.pop()))
        yield self.group.broadcast(message)
        self.is_in_step = True

    def load(self, load: Load) -> Part:
        """Load every rank's part of a model and of the pool. Raises as `Part`; RankError: a rank failed."""
        with self.told(load):
            part = Part(load, self.group)
            self.group.all_agree(True)
        return part

    def engine(
        self, part: Part, layout: PoolLayout, num_disk_slots: int = 0, disk_folder: str | None = None
    ) -> tuple[SharedRunner, SharedDisk | None]:
        """What an engine runs on. Raises as `Part.engine`; RankError: another rank failed."""
        new = NewEngine(next(self._numbers), layout, num_disk_slots, disk_folder)
        with self.told(new):
            own = part.engine(new)
            self.group.all_agree(True)
        runner = SharedRunner(self, new.engine, own)
        weakref.finalize(runner, self._dropped.append, new.engine)
        return runner, None if own.disk is None else SharedDisk(self, new.engine, own, own.disk)


class SharedRunner:
    """A `Runner` of all ranks."""

    def __init__(self, leader: Leader, engine: int, own: EnginePart) -> None:
        self._leader = leader
        self._engine = engine
        self._own = own

    def run(self, inputs: StepInputs) -> StepOutputs:
        """Compute an iteration. Raises RankError: a rank is lost."""
        message, progress = Step.of(self._engine, inputs), self._leader.group.progress
        with progress.excused(False), self._leader.told(message) as num_bytes:
            outputs = self._own.runner.run(inputs)
        return replace(outputs, broadcast_bytes=num_bytes)


class SharedDisk:
    """A `memory.disk.Disk` of all ranks: each has a file for its own heads."""

    def __init__(self, leader: Leader, engine: int, own: EnginePart, file: DiskFile) -> None:
        self._leader = leader
        self._engine = engine
        self._own = own
        self._file = file

    @property
    def room(self) -> int:
        return self._file.room

    def write(self, copies: Items[Copy]) -> None:
        with self._leader.told(WriteDisk(self._engine, tuple(copies))):
            self._file.write(copies)

    def read(self, copies: Items[Copy]) -> None:
        with self._leader.told(ReadDisk(self._engine, tuple(copies))):
            self._file.read(copies)

    def poll(self) -> bool | None:
        """See `Disk.poll`. When this rank's read has ended, it waits for the other ranks."""
        answer = self._file.poll()
        if answer is None:
            return None
        with self._leader.told(EndRead(self._engine)):
            return self._leader.group.all_agree(answer)

    def wait(self, clock: Sleeper, until: float | None) -> bool:
        return self._file.wait(clock, until)

    def close(self) -> None:
        """See `Disk.close`. The other ranks close their files with the engine."""
        self._file.close()
