"""Request-level batching: a batch is closed, and runs until its last request ends (FasterTransformer)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.memory.manager import Allocation
from pagedbench.request import Status
from pagedbench.scheduling.batch import Batch, BlockedBy, Prefill
from pagedbench.scheduling.repetition import Repeating

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager
    from pagedbench.request import Sequence, SequenceGroup
    from pagedbench.scheduling.scheduler import Limits

SAFETY_MARGIN = 8
"""Slots of an extent that the authors' driver leaves unused: it takes 2040 of 2048 (`ft/ft_server.py`)."""


class RequestLevel(Repeating):
    """Prompts are padded to the batch's longest, every row is computed to the end, and all leave together.

    An idle engine starts at once with the requests that wait, up to `batch_size`.
    """

    def __init__(self, memory: KVManager, limits: Limits) -> None:
        super().__init__(memory, limits)
        self._rows: list[Sequence] = []  # of the present batch, the ended ones included
        self._ended: list[SequenceGroup] = []
        self._padded_len = 0
        self._first_count = 0
        self._num_extra = 0  # most tokens of any row beyond one per iteration

    def schedule(self) -> Batch:
        if not self._rows:
            return self._start_batch()
        batch = self._decode(self.grow_all())
        batch.copies = self.take_copies()
        self._step += 1
        return batch

    def _decode(self, decode_step: int) -> Batch:
        row_len = self._padded_len + decode_step - self._first_count + self._num_extra
        return Batch(
            step=self._step,
            decodes=self._rows,
            decode_context=row_len * len(self._rows),
            num_running=len(self.running),
            num_waiting=len(self.waiting),
            decode_step=decode_step,
            num_dead=len(self._rows) - self.num_sequences,
            padded_len=self._padded_len,
            blocked_by=BlockedBy.POLICY if self.waiting else BlockedBy.NOTHING,
        )

    def next_alike(self, latest: Batch) -> tuple[Batch, int] | None:
        if not self._rows or self._copies or not self.memory.grows_alike:
            return None
        return self._decode(self.counter.count + 1), int(self._endings.next_due) - self.counter.count

    def _start_batch(self) -> Batch:
        prefills, blocked_by = self._fill_batch()
        groups = list(self.running.values())
        self._rows = self.members()
        self._padded_len = max((group.request.prompt_len for group in groups), default=0)
        self._first_count = self.counter.count
        self._num_extra = 0
        batch = Batch(
            step=self._step,
            prefills=prefills,
            num_running=len(groups),
            num_waiting=len(self.waiting),
            padded_len=self._padded_len,
            blocked_by=blocked_by,
        )
        self._step += bool(batch)
        return batch

    def _fill_batch(self) -> tuple[list[Prefill], BlockedBy]:
        """Take the earliest requests up to the first that does not fit; a single one always fits.

        All requests of a batch have the same number of sequences. Returns their prompts, and why the next
        request has to wait.
        """
        prefills: list[Prefill] = []
        longest_prompt = longest_output = 0
        while self.waiting and len(self.running) < self.memory.batch_size:
            head = self.waiting[0]
            longest_prompt = max(longest_prompt, head.request.prompt_len)
            longest_output = max(longest_output, head.request.reply_len)
            is_too_long = longest_prompt + longest_output > self.memory.extent_len - SAFETY_MARGIN
            is_too_wide = self.num_sequences + head.num_sequences > self.limits.max_num_seqs
            if self.running and is_too_wide:
                return prefills, BlockedBy.SEQUENCES
            if self.running and (is_too_long or head.num_sequences != self.memory.width):
                return prefills, BlockedBy.POLICY
            if self.memory.can_allocate(head) is not Allocation.OK:
                return prefills, self.refusal(head)
            self.waiting.popleft()
            prefills += self.admit(head)
        return prefills, BlockedBy.POLICY if self.waiting else BlockedBy.NOTHING

    def abort(self, request_id: int) -> bool:
        """Groups that only wait for the batch to end are finished, or were aborted already."""
        has_ended = any(group.request.request_id == request_id for group in self._ended)
        return not has_ended and super().abort(request_id)

    def evict(self, group: SequenceGroup) -> None:
        """The client no longer waits, but the row is computed and keeps its memory until the batch ends."""
        self.complete(group)

    def complete(self, group: SequenceGroup) -> None:
        """The group has ended, but keeps its memory and its row until the batch is done."""
        self.halt(group)
        for sequence in group.sequences:
            self.memory.retire(sequence)
        self._ended.append(group)
        if not self.num_sequences:
            self._end_batch()

    def extend(self, group: SequenceGroup, num_tokens: int) -> None:
        super().extend(group, num_tokens)
        self._num_extra = max(self._num_extra, len(group.spans[-1].extra))

    def _end_batch(self) -> None:
        for group in sorted(self._ended, key=lambda group: group.order):
            for sequence in group.sequences:
                self.memory.free(sequence)
            del self.running[group.order]
            if group.status is Status.RUNNING:
                self.finish(group)
        self._ended = []
        self._rows = []
        self._members = None
