"""PoolObserver: tells an EventLog what a memory manager and a scheduler do, without their knowledge.

It replaces methods of the two objects, so that a run without a log pays nothing, and reads the manager's
answers, so that a user's own manager is observed like a built-in one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pagedbench.config import ConfigError
from pagedbench.memory.layer_group import has_windows
from pagedbench.memory.placement import BlockTable, Extent
from pagedbench.metrics.event_log import NONE, Event, EventLog
from pagedbench.metrics.placement_log import DEVICE, HOST, HostBlocks, PlacementLog, Seen, seen_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Items

    from pagedbench.memory.eviction import CachedBlock
    from pagedbench.memory.manager import KVManager
    from pagedbench.memory.moves import Copy
    from pagedbench.memory.placement import Placement
    from pagedbench.memory.prefix import Key
    from pagedbench.request import Sequence, SequenceGroup
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.scheduler import Scheduler

ALLOCATE = Event.ALLOCATE


def observe(scheduler: Scheduler, memory: KVManager, block_size: int) -> EventLog:
    """A log of everything that the two do from now on.

    Raises:
        ConfigError: the methods of the manager or scheduler cannot be replaced.
    """
    log = EventLog(block_size if memory.attention != "contiguous" else None)
    observer = PoolObserver(memory, log)
    for target, methods in ((memory, observer.memory_methods), (scheduler, observer.scheduler_methods)):
        for name, method in methods.items():
            try:
                setattr(target, name, partial(method, getattr(target, name)))
            except AttributeError:
                raise ConfigError(
                    f"--save-events cannot observe {type(target).__name__}: its methods cannot be "
                    "replaced, so give its instances a __dict__ (no __slots__), or leave --save-events out"
                ) from None
    memory.observe_cache(observer)
    return log


class PoolObserver:
    """Compares the placements of a sequence before and after each call."""

    def __init__(self, memory: KVManager, log: EventLog) -> None:
        self._memory = memory
        self._log = log
        self._changes = PlacementLog(log)
        self._groups = range(len(memory.layer_groups))
        self._has_windows = has_windows(memory.layer_groups)
        self._seen: dict[Sequence, list[Seen]] = {}  # placements on the device
        self._host: dict[Sequence, HostBlocks] = {}
        self._actor: Sequence | None = None  # the sequence that the manager works for
        self._is_moving = False
        self._is_admitting = False
        self._num_cached: dict[SequenceGroup, int] = {}  # tokens found when it was admitted
        self._losses: dict[SequenceGroup, int] = {}  # first entry in which it lost a block, this iteration
        self._next_step = 0
        self.memory_methods: dict[str, Callable[..., Any]] = {
            "start_iteration": self._start_iteration,
            "allocate": self._allocate,
            "begin": self._allocate,
            "continue_prompt": self._continue_prompt,
            "append": self._append,
            "fork": self._fork,
            "mark_computed": self._mark_computed,
            "finish": self._finish,
            "free": self._free,
            "swap_out": self._swap_out,
            "swap_in": self._swap_in,
        }
        self.scheduler_methods: dict[str, Callable[..., Any]] = {
            "schedule": self._schedule,
            "take_finished": self._take_finished,
        }

    # The cache of prefixes

    def kept(self, blocks: Items[CachedBlock]) -> None:
        """The content of these blocks can be found again from now on."""
        self._changes.note(Event.KEEP, DEVICE, [block.number for block in blocks], self._actor)
        if self._actor is not None:
            group, costs = self._actor.group, self._log.eviction_costs
            num_cached = self._num_cached.get(group, 0)
            costs.kept(blocks, self._next_step, group.request.request_id, num_cached)

    def evicted(self, blocks: Items[int], keys: Items[Key]) -> None:
        """The content of these blocks is lost, because their room is needed."""
        self._changes.note(Event.EVICT, DEVICE, [*blocks], self._actor)
        cause_id = None if self._actor is None else self._actor.group.request.request_id
        self._log.eviction_costs.evicted(keys, self._next_step, cause_id)

    # Methods of the manager

    def _start_iteration(self, inner: Callable[..., None], now: float) -> None:
        self._actor = None  # contents that expire make room for no request
        inner(now)
        if self._has_windows:
            self._log.moment = 2 * self._next_step
            for sequence in self._seen:
                self._note_slides(sequence)

    def _allocate(self, inner: Callable[..., list[int]], group: SequenceGroup, *limit: int) -> list[int]:
        """`allocate` and `begin`; a manager may call one in the other."""
        if self._is_admitting:
            return inner(group, *limit)
        self._actor, length = group.sequences[0], group.sequences[0].num_tokens
        self._log.add(Event.ADMIT, NONE, None, group.request.request_id, length=length)
        self._is_admitting = True
        starts = inner(group, *limit)
        self._is_admitting = False
        self._num_cached[group] = starts[0]
        for sequence, start in zip(group.sequences, starts, strict=True):
            self._look_at(sequence)
            for placement in self._placements(sequence):
                num_hits = 0
                if start and sequence is self._actor and isinstance(placement, BlockTable):
                    num_hits = self._changes.hit(placement, start, sequence, length)
                self._changes.gain(placement, num_hits, sequence, length)
        return starts

    def _continue_prompt(self, inner: Callable[..., None], group: SequenceGroup, num_tokens: int) -> None:
        self._actor = group.sequences[0]
        inner(group, num_tokens)
        for sequence in group.sequences:
            for seen in self._seen[sequence]:
                if new := seen.blocks[seen.num_blocks :]:
                    first, length = seen.num_blocks + seen.num_gone, sequence.num_tokens
                    self._changes.note(Event.ALLOCATE, DEVICE, new, sequence, first, length)
                    seen.num_blocks, seen.last = len(seen.blocks), seen.blocks[-1]

    def _append(self, inner: Callable[..., list[Copy]], sequence: Sequence) -> list[Copy]:
        self._actor = sequence
        copies = inner(sequence)
        if self._has_windows:
            self._note_slides(sequence)
        for number, seen in enumerate(self._seen[sequence]):
            blocks, count = seen.blocks, seen.num_blocks
            num_new = len(blocks) - count
            if not num_new:
                self._replace(sequence, number, seen)
                continue
            seen.num_blocks, seen.last = len(blocks), blocks[-1]
            owner = (sequence.group.request.request_id, sequence.sequence_id)
            place = (count + seen.num_gone, sequence.num_tokens + 1)
            if num_new == 1:
                self._log.add_one(ALLOCATE, DEVICE, blocks[-1], *owner, *place)
            else:
                self._log.add(ALLOCATE, DEVICE, blocks[count:], *owner, *place)
        return copies

    def _note_slides(self, sequence: Sequence) -> None:
        """Note what has slid out of a window, in all layer groups, before anything is allocated."""
        self._seen[sequence] = [
            self._changes.slide(seen, self._memory.placement(sequence, number), sequence)
            for number, seen in enumerate(self._seen[sequence])
        ]

    def _replace(self, sequence: Sequence, number: int, seen: Seen) -> None:
        """Note a change without an added block: the last was copied on write, or the list is another."""
        placement, length = self._memory.placement(sequence, number), sequence.num_tokens
        if isinstance(placement, Extent):
            return
        count, last = seen.num_blocks, seen.last
        if placement.blocks is not seen.blocks:
            assert isinstance(seen.placement, BlockTable)
            self._changes.compare(sequence, seen.placement, placement, length, length + 1)
        elif seen.blocks[-1] != last:
            self._changes.note(Event.COPY, DEVICE, seen.blocks[-1:], sequence, count - 1, length + 1)
            self._changes.note(Event.FREE, DEVICE, (last,), sequence, count - 1, length)
        self._seen[sequence][number] = seen_now(placement)

    def _fork(self, inner: Callable[..., list[Copy]], parent: Sequence, child: Sequence) -> list[Copy]:
        self._actor = child
        before, old_length = self._seen.get(child, []), child.num_tokens
        copies = inner(parent, child)
        self._look_at(child)
        length = parent.num_tokens
        for old, new in zip(before, self._placements(child), strict=True):
            if isinstance(new, Extent):
                self._changes.note(Event.COPY, DEVICE, (new.start,), child, 0, length)
            else:
                assert isinstance(old.placement, BlockTable)
                self._changes.compare(child, old.placement, new, old_length, length)
        return copies

    def _mark_computed(self, inner: Callable[..., None], sequence: Sequence, num_computed: int) -> None:
        self._actor = sequence
        inner(sequence, num_computed)

    def _finish(self, inner: Callable[..., None], sequence: Sequence) -> None:
        self._actor = sequence
        inner(sequence)

    def _free(self, inner: Callable[..., None], sequence: Sequence) -> None:
        if not self._is_moving:
            self._losses.setdefault(sequence.group, self._log.num_entries)
            if sequence in self._host:
                self._lose_host(sequence)
            else:
                self._lose_device(sequence)
        inner(sequence)

    def _swap_out(self, inner: Callable[..., list[Copy]], group: SequenceGroup) -> list[Copy]:
        self._losses.setdefault(group, self._log.num_entries)
        self._is_moving = True
        copies = inner(group)
        self._is_moving = False
        moved = dict(self._changes.moves(copies))
        unsaid = set(moved)
        for sequence in group.sequences:
            blocks, length = self._blocks_of(sequence), sequence.num_tokens
            for number, block in enumerate(blocks):
                if block in unsaid:
                    unsaid.remove(block)
                    self._changes.note(Event.SWAP_OUT, DEVICE, (block,), sequence, number, length)
            on_host = [moved[block] for block in blocks if block in moved]
            first = len(blocks) - len(on_host)
            self._host[sequence] = HostBlocks(first, on_host)
            self._changes.note(Event.ALLOCATE, HOST, on_host, sequence, first, length)
        for sequence in group.sequences:
            self._lose_device(sequence)
        return copies

    def _swap_in(self, inner: Callable[..., list[Copy]], group: SequenceGroup) -> list[Copy]:
        self._actor = group.sequences[0]
        self._is_moving = True
        copies = inner(group)
        self._is_moving = False
        unsaid = {block for block, _ in self._changes.moves(copies)}
        for sequence in group.sequences:
            self._look_at(sequence)
            for placement in self._placements(sequence):
                self._changes.gain(placement, 0, sequence, sequence.num_tokens)
            for number, block in enumerate(self._host[sequence].blocks, self._host[sequence].first):
                if block in unsaid:
                    unsaid.remove(block)
                    self._changes.note(Event.SWAP_IN, HOST, (block,), sequence, number, sequence.num_tokens)
        for sequence in group.sequences:
            self._lose_host(sequence)
        return copies

    # Methods of the scheduler

    def _schedule(self, inner: Callable[[], Batch]) -> Batch:
        self._log.moment = 2 * self._next_step
        self._losses.clear()
        batch = inner()
        for preemption in batch.preemptions[::-1]:  # last first, so that earlier indices stay valid
            place = self._losses.get(preemption.victim, self._log.num_entries)
            self._log.insert(place, Event.PREEMPT, preemption.victim.request.request_id)
        if batch:
            self._next_step += 1
        self._log.moment = 2 * self._next_step - 1 if self._next_step else 0
        return batch

    def _take_finished(self, inner: Callable[[], list[SequenceGroup]]) -> list[SequenceGroup]:
        groups = inner()
        for group in groups:
            self._num_cached.pop(group, None)
            self._log.add(Event.FINISH, NONE, None, group.request.request_id)
        return groups

    # Placements

    def _look_at(self, sequence: Sequence) -> None:
        """Remember the placements of the sequence as they are now."""
        self._seen[sequence] = [
            seen_now(self._memory.placement(sequence, number)) for number in self._groups
        ]

    def _lose_device(self, sequence: Sequence) -> None:
        for placement in self._placements(sequence):
            self._changes.lose(placement, sequence)
        self._seen.pop(sequence, None)

    def _lose_host(self, sequence: Sequence) -> None:
        first, blocks = self._host.pop(sequence)
        self._changes.note(Event.FREE, HOST, blocks, sequence, first, sequence.num_tokens)

    def _blocks_of(self, sequence: Sequence) -> list[int]:
        """The sequence's blocks on the device, of all layer groups."""
        return [block for seen in self._seen[sequence] for block in seen.blocks]

    def _placements(self, sequence: Sequence) -> list[Placement]:
        return [seen.placement for seen in self._seen.get(sequence, ())]
