"""Scheduler: the queue, who runs, and what an iteration's samples change; policies fill in the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.memory.manager import Allocation
from pagedbench.request import DecodeCounter, SequenceGroup, Span, Status
from pagedbench.scheduling.agenda import Agenda
from pagedbench.scheduling.batch import BlockedBy, Prefill

if TYPE_CHECKING:
    from pagedbench.memory.manager import Copy, KVManager
    from pagedbench.request import Request, Sequence
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import BeamStep, Samples


@dataclass(frozen=True, slots=True)
class Limits:
    """What one iteration may hold, and what happens when memory runs out.

    Attributes:
        prefill: "mixed", prompts and decodes share iterations, or "separate", prompts first.
        preemption: "recompute", "swap", or "auto": recompute one sequence, swap a group.
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2560
    prefill: str = "mixed"
    preemption: str = "auto"


class Scheduler(ABC):
    """First come, first served; the order of arrival is the order of service and of survival.

    An iteration costs what changes in it, not what runs: lengths derive from a shared counter, and
    the decoding iterations in which sequences need room or end are known in advance (`Agenda`).

    A scheduler for `--batching module:Class` is built as `Class(memory, limits)`.
    """

    def __init__(self, memory: KVManager, limits: Limits) -> None:
        self.memory = memory
        self.limits = limits
        self.counter = DecodeCounter()
        self.waiting: deque[SequenceGroup] = deque()  # in order of arrival
        self.running: dict[int, SequenceGroup] = {}  # by order of arrival, oldest first
        self.num_sequences = 0  # of the running groups
        self._endings: Agenda[SequenceGroup] = Agenda()
        self._finished: list[SequenceGroup] = []
        self._num_added = 0
        self._step = 0
        self._stored_len = 0  # sum of num_stored over the running sequences
        self._members: list[Sequence] | None = None  # the running sequences; None: to be rebuilt
        self._copies: list[Copy] = []  # that forks cause, for the next batch

    @property
    def has_unfinished(self) -> bool:
        """Is there a request that waits, runs, or has ended but was not taken?"""
        return bool(self.waiting or self.running or self._finished)

    def add(self, request: Request) -> None:
        """Queue a request. One that can never fit fails at once and harms nobody."""
        group = SequenceGroup(request, order=self._num_added)
        self._num_added += 1
        too_wide = request.sampling.width > self.limits.max_num_seqs
        if too_wide or self.memory.can_allocate(group) is Allocation.NEVER:
            group.status = Status.FAILED
            self._finished.append(group)
        else:
            self.waiting.append(group)

    @abstractmethod
    def schedule(self) -> Batch:
        """Decide the next iteration and take the memory that it needs."""

    def update(self, batch: Batch, samples: Samples) -> None:
        """Take in what the iteration sampled, and let go of the groups that it completed."""
        columns = zip(samples.sequences, samples.tokens, samples.logprobs, strict=True)
        for sequence, token, logprob in columns:
            sequence.append(token, logprob)
            if sequence.has_stopped and all(item.has_stopped for item in sequence.group.sequences):
                self._endings.remove(sequence.group)
                self._endings.add(self.counter.count, sequence.group)
        for step in samples.beams:
            self._reorder(step)
        for group in self._endings.take(self.counter.count):
            group.spans[-1].last = self.counter.count
            self.complete(group)

    def abort(self, request_id: int) -> bool:
        """The client has given the request up. Returns whether it was still there."""
        for group in self.unfinished():
            if group.request.request_id == request_id:
                self.end(group, Status.ABORTED)
                return True
        return False

    def unfinished(self) -> list[SequenceGroup]:
        """Every group that has not left."""
        return [*self.waiting, *self.running.values()]

    def end(self, group: SequenceGroup, status: Status) -> None:
        """The group leaves with this status, in whatever state it is; its memory comes back at once."""
        is_waiting, group.status = group.status is Status.WAITING, status
        if is_waiting:
            self.waiting.remove(group)
        else:
            self.evict(group)
        self._finished.append(group)

    @abstractmethod
    def evict(self, group: SequenceGroup) -> None:
        """Take the group, which has memory, out of wherever it is, and its memory from it."""

    def _reorder(self, step: BeamStep) -> None:
        """Each beam gets its past and its newest token; all of a step act at once."""
        group = step.group
        if step.parents != list(range(group.num_sequences)):  # else each continues itself
            group.sequences = self._heirs(step)
            self._members = None
        for sequence, token, score in zip(group.sequences, step.tokens, step.scores, strict=False):
            sequence.output_ids.append(token)
            sequence.cumulative_logprob = score

    def _heirs(self, step: BeamStep) -> list[Sequence]:
        """Winners go on, or lend their past to losers (paper, section 4.4)."""
        old = step.group.sequences
        losers = [sequence for i, sequence in enumerate(old) if i not in step.parents]
        is_last_step = self._endings.is_due(step.group, self.counter.count)
        heirs: list[Sequence] = []
        seen: set[int] = set()
        for i in step.parents:
            if i not in seen:
                seen.add(i)
                heirs.append(old[i])
                continue
            child = losers.pop()
            child.continue_from(old[i])
            heirs.append(child)
            if not is_last_step:
                self.fork(old[i], child)
        return heirs

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """`child` gives up its past for the parent's; what has to be copied is for the next batch."""
        self._copies += self.memory.fork(parent, child)

    def take_copies(self) -> list[Copy]:
        """The copies that forks have caused since the last call."""
        copies, self._copies = self._copies, []
        return copies

    @abstractmethod
    def complete(self, group: SequenceGroup) -> None:
        """The group has all its tokens."""

    def take_finished(self) -> list[SequenceGroup]:
        """Groups that left since the last call, completed and failed alike."""
        finished, self._finished = self._finished, []
        return finished

    def members(self) -> list[Sequence]:
        """The sequences of all running groups, oldest first; the caller must not change the list."""
        if self._members is None:
            self._members = [sequence for group in self.running.values() for sequence in group.sequences]
        return self._members

    def grow_all(self) -> int:
        """Every running sequence stores one more token in this iteration; returns its number."""
        self.counter.count += 1
        self.memory.advance(self.num_sequences)
        self._stored_len += self.num_sequences
        return self.counter.count

    def refusal(self, group: SequenceGroup) -> BlockedBy:
        """What is short if the memory manager has no room for the group now."""
        usage = self.memory.usage(head_refused=True)
        is_fragmented = usage.unusable >= group.num_sequences * group.final_len
        return BlockedBy.FRAGMENTATION if is_fragmented else BlockedBy.MEMORY

    def admit(self, group: SequenceGroup) -> list[Prefill]:
        """Give the group memory and let it run from this iteration on. Returns what is to be computed."""
        starts = self.memory.allocate(group)
        if group.admit_step is None:
            group.admit_step = self._step
        count = self.counter.count
        group.spans.append(Span(self._step, first=count, last=count))
        self.resume(group)
        stop = group.sequences[0].num_stored
        idle = tuple(item for item, start in zip(group.sequences, starts, strict=True) if start == stop)
        prefills: list[Prefill] = []
        for sequence, start in zip(group.sequences, starts, strict=True):
            if start < stop:
                sampled = (sequence,) if prefills else (sequence, *idle)
                prefills.append(Prefill(sequence, start, stop, sampled))
        return prefills

    def resume(self, group: SequenceGroup) -> None:
        """The group, which has its memory, runs."""
        group.status = Status.RUNNING
        for sequence in group.sequences:
            sequence.start(self.counter)
            self._stored_len += sequence.num_stored
        is_latest = not self.running or next(reversed(self.running)) < group.order
        self.running[group.order] = group
        if not is_latest:  # it was preempted, and later ones came back before it
            self.running = dict(sorted(self.running.items()))
        self.num_sequences += group.num_sequences
        self._members = None
        remaining = group.final_len - 1 - group.sequences[0].num_stored
        self._endings.add(self.counter.count + remaining, group)

    def withdraw(self, group: SequenceGroup) -> None:
        """The group stops running, and its lengths stand still."""
        for sequence in group.sequences:
            sequence.stop()
            self._stored_len -= sequence.num_stored
        del self.running[group.order]
        self.num_sequences -= group.num_sequences
        self._members = None

    def finish(self, group: SequenceGroup) -> None:
        """The group leaves the system with all its tokens."""
        group.status = Status.FINISHED
        self._finished.append(group)
