"""Scheduler: the queue, who runs, and what an iteration's samples change; policies fill in the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pagedbench.memory.manager import Allocation
from pagedbench.request import DecodeCounter, SequenceGroup, Span, Status
from pagedbench.scheduling.admission import Watermark
from pagedbench.scheduling.agenda import Agenda
from pagedbench.scheduling.batch import BlockedBy, Prefill
from pagedbench.scheduling.return_modes import CountedTokens
from pagedbench.scheduling.samples import append_tokens, reorder_beams
from pagedbench.scheduling.victims import Latest

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager
    from pagedbench.memory.moves import Copy
    from pagedbench.request import Request, Sequence
    from pagedbench.scheduling.admission import AdmissionPolicy
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.return_modes import ReturnCosts
    from pagedbench.scheduling.samples import Samples
    from pagedbench.scheduling.victims import VictimPolicy


@dataclass(frozen=True, slots=True)
class Limits:
    """What one iteration may hold, and what happens when memory runs out.

    Attributes:
        prefill: "mixed", prompts and decodes share iterations; "separate", prompts first; or "chunked",
            prompts are computed in chunks, so that no iteration exceeds the token budget.
        preemption: what happens to a victim's tokens; see `RETURN_MODES`.
        victim: decides which group to preempt.
        admission: who may begin.
        costs: what a victim's return costs, for policies that ask.
        max_chunk_len: most tokens of one prompt in an iteration, with chunks; None: only the token budget.
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2560
    prefill: str = "mixed"
    preemption: str = "auto"
    victim: VictimPolicy = field(default_factory=Latest)
    admission: AdmissionPolicy = field(default_factory=Watermark)
    costs: ReturnCosts = field(default_factory=CountedTokens)
    max_chunk_len: int | None = None


class Scheduler(ABC):
    """First come, first served: requests that arrive earlier are served earlier and preempted later.

    The work of an iteration depends on what changes in it, not on how many sequences run: lengths derive
    from a shared counter, and the iterations in which sequences need room or end are known (`Agenda`).

    A scheduler for `--batching module:Class` is built as `Class(memory, limits)`.
    """

    def __init__(self, memory: KVManager, limits: Limits) -> None:
        self.memory = memory
        self.limits = limits
        self.counter = DecodeCounter()
        self.waiting: deque[SequenceGroup] = deque()  # in order of arrival
        self.running: dict[int, SequenceGroup] = {}  # by order of arrival, oldest first; also PREFILLING
        self.num_sequences = 0  # of the running groups
        self.num_prefilling = 0  # of the running groups whose prompts are partly computed
        self._endings: Agenda[SequenceGroup] = Agenda()
        self._finished: list[SequenceGroup] = []
        self._num_added = 0
        self._step = 0
        self._stored_len = 0  # sum of num_tokens over the decoding sequences
        self._members: list[Sequence] | None = None  # the decoding sequences; None: to be rebuilt
        self._copies: list[Copy] = []  # caused by forks, for the next batch

    @property
    def has_unfinished(self) -> bool:
        """Is there a request that waits, runs, or has ended but was not returned by `take_finished`?"""
        return bool(self.waiting or self.running or self._finished)

    def add(self, request: Request) -> None:
        """Queue a request. One that can never fit fails at once; the others are not affected."""
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

    def update(self, batch: Batch, samples: Samples) -> int:
        """Append what the iteration sampled, and let the groups that it completed leave.

        Returns how many tokens it appended beyond one per sequence.
        """
        self.counter.num_new = 0
        for prefill in batch.prefills:
            prefill.sequence.finish_chunk()
        num_more = self._take_in(samples) if samples.sequences else 0
        for step in samples.beams:
            is_last = self._endings.is_due(step.group, self.counter.count)
            if reorder_beams(step, fork=None if is_last else self.fork):
                self._members = None
        self.complete_due()
        return num_more

    def complete_due(self) -> None:
        """Let the groups leave whose last token the latest iteration sampled."""
        for group in self._endings.take(self.counter.count):
            self.complete(group)

    def _take_in(self, samples: Samples) -> int:
        """Append the samples to their sequences. Returns as `update`."""
        num_more = append_tokens(samples)
        for group, number in num_more.items():
            self.extend(group, number)
        for group in dict.fromkeys(item.group for item in samples.sequences if item.has_stopped):
            if all(sequence.has_stopped for sequence in group.sequences):
                self._endings.move(self.counter.count, group)
        return sum(number * group.num_sequences for group, number in num_more.items())

    def extend(self, group: SequenceGroup, num_tokens: int) -> None:
        """Each sequence of a decoding group has got `num_tokens` tokens beyond the first."""
        has_slots = group.spans[-1].first < self.counter.count and num_tokens <= self.memory.num_lookahead
        assert has_slots, f"no slots for {num_tokens + 1} tokens of request {group.request.request_id}"
        for sequence in group.sequences:
            sequence.extend(num_tokens)
        self.memory.advance(num_tokens * group.num_sequences)
        self._stored_len += num_tokens * group.num_sequences
        group.spans[-1].extra += [self.counter.count] * num_tokens
        self._endings.move(self.counter.count + _num_remaining(group), group)

    def abort(self, request_id: int) -> bool:
        """End a request that its client has given up. Returns whether it was still there."""
        for group in self.unfinished():
            if group.request.request_id == request_id:
                self.end(group, Status.ABORTED)
                return True
        return False

    def unfinished(self) -> list[SequenceGroup]:
        """Every group that has not left."""
        return [*self.waiting, *self.running.values()]

    def end(self, group: SequenceGroup, status: Status) -> None:
        """The group leaves with this status, whatever its state is; its memory is free at once."""
        is_waiting, group.status = group.status is Status.WAITING, status
        if is_waiting:
            self.waiting.remove(group)
        else:
            self.evict(group)
        self._finished.append(group)

    @abstractmethod
    def evict(self, group: SequenceGroup) -> None:
        """Take a group that has memory, running or swapped, out of the scheduler, and free its memory."""

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """`child` continues the parent's tokens; copies that this needs are for the next batch."""
        self._copies += self.memory.fork(parent, child)

    def take_copies(self) -> list[Copy]:
        """The copies that forks have caused since the last call."""
        copies, self._copies = self._copies, []
        return copies

    @abstractmethod
    def complete(self, group: SequenceGroup) -> None:
        """The group has all its tokens."""

    def take_finished(self) -> list[SequenceGroup]:
        """Groups that left since the last call: completed, failed and aborted ones."""
        finished, self._finished = self._finished, []
        return finished

    def members(self) -> list[Sequence]:
        """The sequences that decode, oldest group first; the caller must not change the list."""
        if self._members is None:
            groups = [group for group in self.running.values() if group.status is Status.RUNNING]
            self._members = [sequence for group in groups for sequence in group.sequences]
        return self._members

    def grow_all(self) -> int:
        """Every decoding sequence stores one more token; returns the decoding iteration's number."""
        num_sequences = self.num_sequences - self.num_prefilling
        self.counter.count += 1
        self.counter.num_new = 1
        self.memory.advance(num_sequences)
        self._stored_len += num_sequences
        return self.counter.count

    def refusal(self, group: SequenceGroup) -> BlockedBy:
        """Why the memory manager has no room for the group now: too few free slots, or fragmentation."""
        usage = self.memory.usage(head_refused=True)
        is_fragmented = usage.unusable >= group.num_sequences * group.final_len
        return BlockedBy.FRAGMENTATION if is_fragmented else BlockedBy.MEMORY

    def admit(self, group: SequenceGroup, max_tokens: int | None = None) -> list[Prefill]:
        """Give the group memory and compute its prompt from this iteration on. Returns as `prefill`."""
        if max_tokens is not None and self.limits.admission.admits_chunks:
            starts = self.memory.begin(group, max_tokens)
        else:
            starts = self.memory.allocate(group)
        for sequence, start in zip(group.sequences, starts, strict=True):
            sequence.compute(start, start)
        if group.admit_step is None:
            group.admit_step = self._step
            group.num_cached = starts[0]
        group.status = Status.PREFILLING
        self.num_prefilling += group.num_sequences
        self.join(group)
        return self.prefill(group, max_tokens)

    def prefill(self, group: SequenceGroup, max_tokens: int | None = None) -> list[Prefill]:
        """Compute more of the group's prompt in this iteration; after the last chunk the group decodes.

        Sequences compute in order, since the others may begin with what the first computes. All of them
        sample for the first time in the same iteration, so each keeps one token for the last chunk.

        Args:
            max_tokens: size of the chunk; None: all that is left. A last chunk of one token per sequence
                is never divided.
        """
        unfinished = [sequence for sequence in group.sequences if sequence.num_left]
        num_left = group.num_left
        is_last = max_tokens is None or num_left <= max(max_tokens, len(unfinished))
        budget = num_left if max_tokens is None or is_last else max_tokens
        idle = tuple(sequence for sequence in group.sequences if not sequence.num_left)
        prefills: list[Prefill] = []
        for sequence in unfinished:
            size = min(sequence.num_left - (not is_last), budget)
            if not size:
                continue
            budget -= size
            start = sequence.num_tokens - sequence.num_left
            sampled = (sequence, *(() if prefills else idle)) if is_last else ()
            sequence.compute(start, start + size)
            self.memory.mark_computed(sequence, start + size)
            prefills.append(Prefill(sequence, start, start + size, sampled))
        if is_last:
            self.num_prefilling -= group.num_sequences
            self.resume(group, self._step)
        return prefills

    def join(self, group: SequenceGroup) -> None:
        """Add the group, which has its memory, to the running groups."""
        is_latest = not self.running or next(reversed(self.running)) < group.order
        self.running[group.order] = group
        if not is_latest:  # it was preempted, and later groups came back before it
            self.running = dict(sorted(self.running.items()))
        self.num_sequences += group.num_sequences

    def resume(self, group: SequenceGroup, prefill_step: int | None) -> None:
        """The group decodes from the next decoding iteration on, after a prefill or a swap-in."""
        count = self.counter.count
        group.status = Status.RUNNING
        group.spans.append(Span(prefill_step, first=count, last=count))
        for sequence in group.sequences:
            sequence.start(self.counter)
            self._stored_len += sequence.num_tokens
        is_latest = next(reversed(self.running)) == group.order
        self._members = [*self._members, *group.sequences] if self._members and is_latest else None
        self._endings.add(count + _num_remaining(group), group)

    def halt(self, group: SequenceGroup) -> None:
        """The running group computes nothing more, and its lengths no longer change."""
        self.num_sequences -= group.num_sequences
        if group.num_left:
            self.num_prefilling -= group.num_sequences
            return
        group.spans[-1].last = self.counter.count
        self._endings.remove(group)
        for sequence in group.sequences:
            sequence.stop()
            self._stored_len -= sequence.num_tokens

    def withdraw(self, group: SequenceGroup) -> None:
        """Halt the group and remove it from the running groups."""
        self.halt(group)
        del self.running[group.order]
        if self._members is not None:
            self._members = [item for item in self._members if item.group is not group]

    def finish(self, group: SequenceGroup) -> None:
        """The group leaves the system with all its tokens."""
        group.status = Status.FINISHED
        self._finished.append(group)


def _num_remaining(group: SequenceGroup) -> int:
    """Tokens that each sequence of the group has yet to store; the last token never is stored."""
    return group.final_len - 1 - group.sequences[0].num_tokens
