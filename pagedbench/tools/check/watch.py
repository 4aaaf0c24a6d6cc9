"""Watching a run slot by slot: the placement of every token, the events of requests, and memory leaks."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pagedbench.memory.placement import BlockTable
from pagedbench.scheduling.batch import PreemptionMode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.engine import Engine
    from pagedbench.memory.moves import Copy
    from pagedbench.memory.placement import Placement
    from pagedbench.request import Sequence
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import Executor, Samples

STRIDE = 200
"""Iterations between two checkpoints."""

DIGEST_LEN = 8
"""Hexadecimal digits of a checkpoint's digest."""


class EventKind(StrEnum):
    """An event of a request, as one character of the baseline."""

    ADMITTED = "+"
    LEFT = "-"
    RECOMPUTED = "!"
    SWAPPED_OUT = ">"
    SWAPPED_IN = "<"

    @property
    def is_preemption(self) -> bool:
        return self in (EventKind.RECOMPUTED, EventKind.SWAPPED_OUT)


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a request in an iteration; `slot`: of its first token, if it enters the pool."""

    iteration: int
    kind: EventKind
    request: int
    slot: int | None = None


class PlacementWatch:
    """Wraps an engine's executor, and reads in every iteration what the executor would read.

    Attributes:
        events: events in order.
        digests: digests of all placements and moves, one per STRIDE iterations.
        num_leaked: slots that are owned at the last checkpoint, but not by a running sequence.
        leaks_from: the iteration of the first checkpoint with leaked slots.
        torn: the first error of the memory manager's own integrity check.
        torn_from: the iteration of the checkpoint with this error.
    """

    def __init__(self, engine: Engine) -> None:
        self.events: list[Event] = []
        self.digests: list[str] = []
        self.num_leaked = 0
        self.leaks_from: int | None = None
        self.torn: str | None = None
        self.torn_from: int | None = None
        self._num_steps = 0
        self._hash = hashlib.sha256()
        self._running: dict[int, int] = {}  # order of arrival -> request
        self._scheduler = engine.scheduler
        self._memory = engine.memory
        self._executor: Executor = engine.executor
        engine.executor = self

    def execute(self, batch: Batch) -> Samples:
        if self._num_steps % STRIDE == 0:
            self._start_checkpoint()
        self._note_events(batch)
        self._hash.update(self._placements(batch))
        self._num_steps += 1
        return self._executor.execute(batch)

    def finish(self) -> None:
        """Note the end of the run, or its crash."""
        self._note_departures(self._num_steps, ())
        self.digests.append(self._hash.hexdigest()[:DIGEST_LEN])
        self.check_memory()

    def check_memory(self) -> None:
        """Look for leaked slots, and for totals that do not match the tables."""
        try:
            num_leaked = self._memory.num_owned - self._num_held()
            if num_leaked:
                self.num_leaked = num_leaked
                self.leaks_from = self._num_steps if self.leaks_from is None else self.leaks_from
            self._memory.check_integrity()
        except (AssertionError, LookupError) as error:
            if self.torn is None:
                self.torn, self.torn_from = " ".join(str(error).split()), self._num_steps

    def _start_checkpoint(self) -> None:
        if self._num_steps:
            self.digests.append(self._hash.hexdigest()[:DIGEST_LEN])
            self._hash = hashlib.sha256()
        self.check_memory()

    def _num_held(self) -> int:
        """Slots that running sequences own; a shared slot counts once.

        Pages do not belong to slots: they must be given back when no sequence runs.
        """
        if self._memory.pages is not None:
            return self._memory.num_owned if self._scheduler.running else 0
        blocks, num_slots, size = set[int](), 0, 1
        for group in self._scheduler.running.values():
            for sequence in group.sequences:
                for placement in self._in_groups(sequence):
                    if isinstance(placement, BlockTable):
                        blocks.update(placement.blocks)
                        size = placement.block_size
                    else:
                        num_slots += placement.size
        return num_slots + size * len(blocks)

    def _in_groups(self, sequence: Sequence) -> list[Placement]:
        """The placement of the sequence in each layer group."""
        numbers = range(len(self._memory.layer_groups))
        return [self._memory.placement(sequence, number) for number in numbers]

    def _note_events(self, batch: Batch) -> None:
        running = self._scheduler.running
        if running.keys() == self._running.keys():
            return
        preempted = [(EventKind.RECOMPUTED, group) for group in batch.preempted(PreemptionMode.RECOMPUTE)]
        preempted += [(EventKind.SWAPPED_OUT, group) for group in batch.preempted(PreemptionMode.SWAP)]
        self._note_departures(batch.step, {group.order for _, group in preempted})
        for kind, group in preempted:
            self.events.append(Event(batch.step, kind, group.request.request_id))
        computed = {prefill.sequence.group.order for prefill in batch.prefills}
        for order, group in running.items():
            if order not in self._running:
                kind = EventKind.ADMITTED if order in computed else EventKind.SWAPPED_IN
                slot = _first_slot(self._memory.placement(group.sequences[0]))
                self.events.append(Event(batch.step, kind, group.request.request_id, slot))
        self._running = {order: group.request.request_id for order, group in running.items()}

    def _note_departures(self, step: int, preempted: Iterable[int]) -> None:
        """Note the requests that have left since the previous iteration, and were not preempted."""
        for order, request in self._running.items():
            if order not in self._scheduler.running and order not in preempted:
                self.events.append(Event(step, EventKind.LEFT, request))

    def _placements(self, batch: Batch) -> array[int]:
        """All numbers that determine which slots the iteration reads and writes, in order."""
        numbers = array("q", [batch.step, len(batch.prefills), len(batch.decodes)])
        for moves in (batch.copies, batch.swap_outs, batch.swap_ins):
            _add_moves(numbers, moves)
        for prefill in batch.prefills:
            numbers.extend((prefill.start, prefill.stop, len(prefill.sampled)))
            self._add_sequence(numbers, prefill.sequence)
            for sequence in prefill.sampled[1:]:
                self._add_sequence(numbers, sequence)
        for sequence in batch.decodes:
            self._add_sequence(numbers, sequence)
        return numbers

    def _add_sequence(self, numbers: array[int], sequence: Sequence) -> None:
        numbers.extend((sequence.group.request.request_id, sequence.sequence_id, sequence.num_tokens))
        for placement in self._in_groups(sequence):
            numbers.extend(_numbers_of(placement))


def _first_slot(placement: Placement) -> int:
    """The first slot of the first block that is still there, or of the extent."""
    if isinstance(placement, BlockTable):
        return placement.blocks[0] * placement.block_size
    return placement.start


def _numbers_of(placement: Placement) -> Iterable[int]:
    return placement.blocks if isinstance(placement, BlockTable) else (placement.start, placement.size)


def _add_moves(numbers: array[int], moves: Iterable[Copy]) -> None:
    for move in moves:
        numbers.extend((move.source, move.destination, move.num_slots))
    numbers.append(-1)
