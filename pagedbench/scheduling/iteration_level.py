"""Iteration-level batching: requests join and leave at every iteration (vLLM, Orca)."""

from __future__ import annotations

from bisect import insort
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING

from pagedbench.memory.manager import Allocation
from pagedbench.request import Status
from pagedbench.scheduling.batch import Batch, BlockedBy, Preemption, PreemptionMode
from pagedbench.scheduling.preemption import serve_oldest_first
from pagedbench.scheduling.repetition import Repeating
from pagedbench.scheduling.return_modes import RETURN_MODES

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager
    from pagedbench.request import Sequence, SequenceGroup
    from pagedbench.scheduling.batch import Prefill
    from pagedbench.scheduling.scheduler import Limits


_order = attrgetter("order")


class IterationLevel(Repeating):
    """The rules of the paper's scheduler (paper, sections 4.3 and 4.5).

    Running groups grow, oldest first, and preempt `limits.victim` when memory runs out. Then swapped groups
    are swapped in, and only if none is left, waiting groups are admitted. Contiguous managers reserve for
    the whole reply, so nothing grows or is preempted: the same class serves vLLM and the three Orcas.
    """

    def __init__(self, memory: KVManager, limits: Limits) -> None:
        super().__init__(memory, limits)
        self.swapped: deque[SequenceGroup] = deque()  # in order of arrival
        self._preemptions: dict[SequenceGroup, Preemption] = {}  # of groups that are not back yet
        self._mode = limits.victim.mode = RETURN_MODES[limits.preemption](limits.costs)

    @property
    def has_unfinished(self) -> bool:
        return bool(self.swapped) or super().has_unfinished

    def schedule(self) -> Batch:
        batch, is_separate = Batch(self._step), self.limits.prefill == "separate"
        blocked_by = BlockedBy.MEMORY  # preempted groups come first
        is_decoding = self.running and self.num_sequences > self.num_prefilling
        if (is_separate or not is_decoding) and not self.swapped:
            if not self.num_prefilling or self._continue_prefills(batch):
                blocked_by = self._admit_waiting(batch)
            if batch.prefills or not self.running:
                return self._filled(batch, blocked_by)
        self._make_room(batch)
        if self.swapped and not any(item.mode is PreemptionMode.SWAP for item in batch.preemptions):
            self._swap_in(batch)
        if decodes := self.members():
            batch.decode_step = self.grow_all()
            batch.decodes, batch.decode_context = decodes, self._stored_len
        has_continued = not self.num_prefilling or self._continue_prefills(batch)
        if self.swapped or batch.preemptions or not has_continued:
            blocked_by = BlockedBy.MEMORY
        elif self.waiting and not is_separate:
            blocked_by = self._admit_waiting(batch)
        return self._filled(batch, blocked_by)

    def _filled(self, batch: Batch, blocked_by: BlockedBy) -> Batch:
        """The iteration with all its counts; an empty one does not count as a step."""
        memory = self.memory
        batch.num_running, batch.num_waiting = len(self.running), len(self.waiting)
        batch.num_swapped = len(self.swapped)
        batch.copies = self.take_copies() + batch.copies  # forks in the previous iteration come first
        if self.waiting or self.swapped:
            batch.blocked_by = blocked_by
        if not batch:
            return batch
        self._step += 1
        batch.prefix_hits, batch.prefix_queried = memory.num_prefix_hits, memory.num_prefix_queried
        batch.evicted_blocks = memory.num_evicted
        if memory.tiers is not None:
            batch.evictions, batch.promotions = memory.take_moves()
        if memory.pages is not None:
            batch.pages = memory.pages.take_changes()
        return batch

    # Prompts

    def chunk_len(self, group: SequenceGroup, num_tokens: int) -> int | None:
        """How many tokens of the group's prompt this iteration computes; None: all that are left.

        With chunks, as many as the `num_tokens` of decodes and earlier prompts leave of the budget, even 0.
        """
        if self.limits.prefill != "chunked":
            return None
        chunk_len = max(self.limits.max_num_batched_tokens - num_tokens, 0)
        return min(chunk_len, self.limits.max_chunk_len or chunk_len)

    def _continue_prefills(self, batch: Batch) -> bool:
        """Compute more of the prompts that were begun in earlier iterations, oldest first.

        Returns whether all of them have room. One without room waits for the groups that decode; if none
        decodes, later groups are preempted for it.
        """
        pending = deque(item for item in self.running.values() if item.status is Status.PREFILLING)
        while pending:
            group = pending.popleft()
            chunk_len = self.chunk_len(group, batch.num_tokens)
            if chunk_len == 0:
                return True
            if chunk_len is not None:
                while not self.memory.can_continue(group, chunk_len):
                    if batch.decodes or not pending:
                        return False
                    victim = self.limits.victim.choose(pending, self.memory)
                    pending.remove(victim)
                    self._preempt(victim, group, batch)
                self.memory.continue_prompt(group, chunk_len)
            batch.prefills += self.prefill(group, chunk_len)
        return not batch.preemptions

    def _admit_waiting(self, batch: Batch) -> BlockedBy:
        """Admit from the head of the queue; returns what blocks the first request that is not admitted."""
        prefills, num_tokens = batch.prefills, batch.num_tokens
        while self.waiting:
            head = self.waiting[0]
            if not self.memory.is_ready(head):
                return BlockedBy.TRANSFER
            if self.num_sequences + head.num_sequences > self.limits.max_num_seqs:
                return BlockedBy.SEQUENCES
            chunk_len = self.chunk_len(head, num_tokens)
            if chunk_len == 0:
                return BlockedBy.TOKENS
            if prefills:  # an iteration's only prompt may have any length
                num_new = self.memory.prefill_len(head)
                num_new = num_new if chunk_len is None else min(num_new, chunk_len)
                if num_tokens + num_new > self.limits.max_num_batched_tokens:
                    return BlockedBy.TOKENS
            if (blocked_by := self._refusal(head, chunk_len)) is not BlockedBy.NOTHING:
                return blocked_by
            self.waiting.popleft()
            chunks = self.admit(head, chunk_len)
            num_new = sum(prefill.num_tokens for prefill in chunks)
            self._note_return(head, num_new + head.num_left)
            self._widest = max(self._widest, head.num_sequences)
            prefills += chunks
            num_tokens += num_new
        return BlockedBy.NOTHING

    def _refusal(self, head: SequenceGroup, chunk_len: int | None) -> BlockedBy:
        """Why the head of the queue cannot be given memory now."""
        policy, memory = self.limits.admission, self.memory
        in_chunks = policy.admits_chunks and chunk_len is not None
        answer = memory.can_begin(head, chunk_len or 0) if in_chunks else memory.can_allocate(head)
        if answer is not Allocation.OK:
            return self.refusal(head)
        if self.running and not policy.admits(head, self.running.values(), memory):
            return BlockedBy.ADMISSION
        return BlockedBy.NOTHING

    def prefill(self, group: SequenceGroup, max_tokens: int | None = None) -> list[Prefill]:
        chunks = super().prefill(group, max_tokens)
        if group.status is Status.RUNNING:
            for sequence in group.sequences:
                self.plan_growth(sequence)
        return chunks

    # Growth

    def _make_room(self, batch: Batch) -> None:
        """Give a slot to the sequences that have none left."""
        if self.can_grow_due():
            batch.copies += self.grow_due()
            return
        due_of: dict[SequenceGroup, list[Sequence]] = {}
        for sequence in self.take_due():
            due_of.setdefault(sequence.group, []).append(sequence)

        def grow(group: SequenceGroup) -> None:
            for sequence in due_of.get(group, ()):
                batch.copies += self.append(sequence)

        def preempt(victim: SequenceGroup, cause: SequenceGroup) -> None:
            self._preempt(victim, cause, batch)

        serve_oldest_first(self.running.values(), self.memory, grow, self.limits.victim, preempt)

    def extend(self, group: SequenceGroup, num_tokens: int) -> None:
        super().extend(group, num_tokens)
        for sequence in group.sequences:
            self._growths.remove(sequence)
            self.plan_growth(sequence)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        super().fork(parent, child)
        for sequence in (parent, child):  # both now share the last block
            if not self._growths.is_due(sequence, self.counter.count + 1):
                self._growths.remove(sequence)
                self.plan_growth(sequence)

    # Preemption

    def _preempt(self, group: SequenceGroup, cause: SequenceGroup, batch: Batch) -> None:
        """Take all memory from the group and queue it: its tokens move to the host, or are recomputed."""
        num_free, num_new = self.memory.num_appendable, group.num_left
        for sequence in group.sequences:
            self._growths.remove(sequence)
        self.withdraw(group)
        group.num_preemptions += 1
        mode, num_lost = PreemptionMode.SWAP, 0
        if self._is_swapped(group):
            batch.swap_outs += self.memory.swap_out(group)
            group.status = Status.SWAPPED
            insort(self.swapped, group, key=_order)
        else:
            mode = PreemptionMode.RECOMPUTE
            for sequence in group.sequences:
                self.memory.free(sequence)
                sequence.discard(is_running=group.status is Status.RUNNING)
            num_new = num_new or group.num_sequences
            num_lost = self.memory.prefill_len(group) - num_new
            group.status = Status.WAITING
            insort(self.waiting, group, key=_order)
        num_freed = self.memory.num_appendable - num_free
        preemption = Preemption(self._step, group, cause, mode, num_freed, num_lost, num_new)
        self._preemptions[group] = preemption
        batch.preemptions.append(preemption)

    def _note_return(self, group: SequenceGroup, num_tokens: int = 0) -> None:
        """The group is back from this iteration on, and computes `num_tokens` tokens before it decodes."""
        preemption = self._preemptions.pop(group, None)
        if preemption is not None:
            preemption.resumed_step = self._step
            if preemption.mode is PreemptionMode.RECOMPUTE:
                preemption.tokens_lost = num_tokens - preemption.tokens_new

    def _is_swapped(self, group: SequenceGroup) -> bool:
        """A group is recomputed if the host has no room for it, or if its prompt is partly computed."""
        is_running = group.status is Status.RUNNING
        return is_running and self._mode.wants_swap(group, self.memory) and self.memory.can_swap_out(group)

    def _swap_in(self, batch: Batch) -> None:
        """Bring swapped groups back, the earliest first, until one does not fit."""
        while self.swapped:
            group = self.swapped[0]
            fits = self.num_sequences + group.num_sequences <= self.limits.max_num_seqs
            if not fits or not self.memory.can_swap_in(group):
                return
            self.swapped.popleft()
            batch.swap_ins += self.memory.swap_in(group)
            self.join(group)
            self.resume(group, prefill_step=None)
            self._note_return(group)
            for sequence in group.sequences:
                if self.memory.room(sequence) == 0:
                    batch.copies += self.append(sequence)
                else:
                    self.plan_growth(sequence)

    def complete(self, group: SequenceGroup) -> None:
        self.withdraw(group)
        for sequence in group.sequences:
            self._growths.remove(sequence)  # a stop token may come before it
            self.memory.finish(sequence)
        self.finish(group)

    def unfinished(self) -> list[SequenceGroup]:
        return [*super().unfinished(), *self.swapped]

    def evict(self, group: SequenceGroup) -> None:
        if group.order in self.running:
            self.withdraw(group)
        else:
            self.swapped.remove(group)
        self._preemptions.pop(group, None)
        for sequence in group.sequences:
            self._growths.remove(sequence)
            self.memory.free(sequence)
