"""Iteration-level batching: requests join and leave at every iteration (vLLM, Orca)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.memory.manager import Allocation
from pagedbench.request import Status
from pagedbench.scheduling.agenda import Agenda
from pagedbench.scheduling.batch import Batch, Prefill
from pagedbench.scheduling.preemption import serve_oldest_first
from pagedbench.scheduling.scheduler import Limits, Scheduler

if TYPE_CHECKING:
    from pagedbench.memory.manager import Copy, KVManager
    from pagedbench.request import Sequence, SequenceGroup


class IterationLevel(Scheduler):
    """The rules of the paper's scheduler (paper, sections 4.3 and 4.5), preemption by recomputation.

    Contiguous managers reserve for the whole reply, so for them nothing ever falls due and nobody is
    preempted: the same class serves vLLM and the three Orcas.
    """

    def __init__(self, memory: KVManager, limits: Limits) -> None:
        super().__init__(memory, limits)
        self._growths: Agenda[Sequence] = Agenda()  # sequences for which `append` falls due
        self._widest = 1  # most sequences of any group so far

    def schedule(self) -> Batch:
        is_separate, head_refused = self.limits.prefill == "separate", False
        if is_separate or not self.running:
            prefills, head_refused = self._admit_waiting(num_tokens=0)
            if prefills or not self.running:
                return self._prompts_only(prefills, head_refused)
        copies, preempted = self._make_room()
        decode_step = self.grow_all()
        decodes, decode_context = self.members(), self._stored_len
        prefills = []
        if not is_separate and not preempted:
            prefills, head_refused = self._admit_waiting(num_tokens=len(decodes))
        batch = Batch(
            step=self._step,
            prefills=prefills,
            decodes=decodes,
            decode_context=decode_context,
            num_running=len(self.running),
            num_waiting=len(self.waiting),
            decode_step=decode_step,
            copies=copies,
            preempted=preempted,
            head_refused=head_refused,
        )
        self._step += bool(batch)
        return batch

    def _prompts_only(self, prefills: list[Prefill], head_refused: bool) -> Batch:
        """An iteration without decodes; an empty batch if nobody was admitted."""
        batch = Batch(
            step=self._step,
            prefills=prefills,
            decodes=(),
            decode_context=0,
            num_running=len(self.running),
            num_waiting=len(self.waiting),
            decode_step=None,
            head_refused=head_refused,
        )
        self._step += bool(batch)
        return batch

    def _admit_waiting(self, num_tokens: int) -> tuple[list[Prefill], bool]:
        """Admit from the head of the queue, and stop at the first that does not fit.

        Returns the prompts to compute, and whether it was memory that refused the head.
        """
        prefills: list[Prefill] = []
        while self.waiting:
            head = self.waiting[0]
            prompt_len = head.sequences[0].num_stored
            if not self._is_within_limits(head, prompt_len, num_tokens, is_only=not prefills):
                break
            if self.memory.can_allocate(head) is not Allocation.OK:
                return prefills, True
            self.waiting.popleft()
            self.admit(head)
            self._widest = max(self._widest, head.num_sequences)
            for sequence in head.sequences:
                self._plan_growth(sequence)
            prefills.append(Prefill(head.sequences[0], 0, prompt_len))
            num_tokens += prompt_len
        return prefills, False

    def _is_within_limits(
        self, head: SequenceGroup, prompt_len: int, num_tokens: int, *, is_only: bool
    ) -> bool:
        """A prompt above the token budget is admitted when it is the iteration's only one."""
        if self.num_sequences + head.num_sequences > self.limits.max_num_seqs:
            return False
        budget = self.limits.max_num_batched_tokens
        return num_tokens + prompt_len <= budget or (is_only and prompt_len > budget)

    def _make_room(self) -> tuple[list[Copy], list[SequenceGroup]]:
        """Give a slot to the sequences that have none left. Returns copies and preempted groups."""
        copies: list[Copy] = []
        preempted: list[SequenceGroup] = []
        due = self._growths.take(self.counter.count + 1)
        due.sort(key=lambda sequence: (sequence.group.order, sequence.sequence_id))
        if self.memory.num_appendable - len(due) >= self._widest:  # whoever is asked last can still append
            for sequence in due:
                copies += self._append(sequence)
            return copies, preempted

        due_of: dict[SequenceGroup, list[Sequence]] = {}
        for sequence in due:
            due_of.setdefault(sequence.group, []).append(sequence)

        def grow(group: SequenceGroup) -> None:
            for sequence in due_of.get(group, ()):
                copies.extend(self._append(sequence))

        def preempt(group: SequenceGroup) -> None:
            self._preempt(group)
            preempted.append(group)

        serve_oldest_first(list(self.running.values()), self.memory, grow, preempt)
        return copies, preempted

    def _append(self, sequence: Sequence) -> list[Copy]:
        copies = self.memory.append(sequence)
        self._plan_growth(sequence)
        return copies

    def _plan_growth(self, sequence: Sequence) -> None:
        """Note when the sequence will have filled its room, unless it ends before."""
        room = self.memory.room(sequence)
        remaining = sequence.group.final_len - 1 - sequence.num_stored
        if room < remaining:
            self._growths.add(self.counter.count + room + 1, sequence)

    def _preempt(self, group: SequenceGroup) -> None:
        """Take everything from the group; later its prompt and its reply so far are computed again."""
        group.spans[-1].last = self.counter.count
        for sequence in group.sequences:
            self._growths.remove(sequence)
        self._endings.remove(group)
        self.withdraw(group)
        for sequence in group.sequences:
            sequence.extend()
        group.status = Status.WAITING
        group.num_preemptions += 1
        position = 0
        while position < len(self.waiting) and self.waiting[position].order < group.order:
            position += 1
        self.waiting.insert(position, group)

    def complete(self, group: SequenceGroup) -> None:
        self.withdraw(group)
        self.finish(group)
