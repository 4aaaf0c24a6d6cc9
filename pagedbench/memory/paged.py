"""Paged: admission by free blocks, and prefix caching (paper, sections 4.2-4.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pagedbench.memory.manager import Allocation
from pagedbench.memory.pool_spec import WATERMARK
from pagedbench.memory.prefix import prompt_keys
from pagedbench.memory.swapping import SwappingManager
from pagedbench.memory.tiers import Tiers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items
    from typing import Self

    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.memory.prefix import Key
    from pagedbench.prompt import Prompt
    from pagedbench.request import Request, Sequence, SequenceGroup


class Paged(SwappingManager):
    """Admits a group if its prompt leaves the watermark free; groups may be swapped to the host and back.

    Sequences of a group share the blocks of their prompt. Registered prefixes are pinned. With
    `prefix_caching`, the full blocks of prompts and finished sequences are found again by their content
    until they are evicted.
    """

    caches_prefixes: ClassVar[bool] = True
    has_tiers: ClassVar[bool] = True
    takes_chunks: ClassVar[bool] = True

    def __init__(
        self,
        num_slots: int,
        block_size: int,
        max_model_len: int,
        *,
        host_slots: int | None = None,
        prefix_caching: bool = False,
        watermark: float = WATERMARK,
        eviction: EvictionPolicy | None = None,
        host_cache_slots: int = 0,
        disk_cache_slots: int = 0,
    ) -> None:
        """Make an empty manager.

        Args:
            host_slots: tokens in the host pool for swapping, as many as on the device if None.
            watermark: share of the blocks that admission leaves free for running sequences to grow.
            eviction: which idle block of the prefix cache loses its content; LRU by default.
            host_cache_slots, disk_cache_slots: capacities of the tiers that evicted blocks go to.
        """
        self.max_model_len = max_model_len
        self.prefix_caching = prefix_caching
        host_blocks = None if host_slots is None else host_slots // block_size
        super().__init__(num_slots // block_size, block_size, host_blocks, watermark, eviction)
        self.cache_times = self.pool.times if prefix_caching else None
        self._begun: dict[Sequence, int] = {}  # sequences with slots for a part of the prompt: its length
        if prefix_caching and host_cache_slots + disk_cache_slots >= block_size:
            tiers = (host_cache_slots // block_size, disk_cache_slots // block_size)
            self.tiers = Tiers(block_size, *tiers, landing_blocks=self._num_blocks(max_model_len))

    @classmethod
    def build(cls, pool: PoolSpec) -> Self:
        """An empty manager. A subclass with another constructor gets only the options that are set."""
        options: dict[str, Any] = {
            "host_slots": pool.host_slots,
            "prefix_caching": pool.prefix_caching or None,
            "watermark": None if pool.watermark == WATERMARK else pool.watermark,
            "eviction": pool.eviction,
            "host_cache_slots": pool.host_cache_slots or None,
            "disk_cache_slots": pool.disk_cache_slots or None,
        }
        options = {name: value for name, value in options.items() if value is not None}
        return cls(pool.num_slots, pool.block_size, pool.max_model_len, **options)

    # The run around it

    @property
    def grows_alike(self) -> bool:
        return self.tiers is None and not self.pool.expires

    def foresee(self, requests: Iterable[Request]) -> None:
        if self.prefix_caching and self.pool.policy.sees_future:
            prompts = ((request.request_id, request.prompt) for request in requests)
            self.pool.policy.foresee(
                {number: prompt_keys(prompt, self.block_size) for number, prompt in prompts}
            )

    # Admission

    def can_allocate(self, group: SequenceGroup) -> Allocation:
        return self._can_take(group, self._num_needed(group))

    def can_begin(self, group: SequenceGroup, num_tokens: int) -> Allocation:
        if group.num_sequences > 1:
            return self.can_allocate(group)
        return self._can_take(group, self._num_blocks(self._end_of_chunk(group, num_tokens)))

    def _can_take(self, group: SequenceGroup, num_taken: int) -> Allocation:
        """Does the pool have `num_taken` blocks for the group, including those that the cache holds?"""
        found = self._find(group)
        most = self.pool.num_blocks - self.watermark_blocks
        if self.index.pinned:
            most -= len(self.index.pinned.difference(found))
        if group.max_len > self.max_model_len or self._worst_case_blocks(group) > most:
            self.index.drop_keys(group)
            return Allocation.NEVER
        if found:  # idle ones count as free until they are shared
            num_taken -= len(found) - self.pool.num_idle(found)
        if self.pool.num_free - num_taken < self.watermark_blocks:
            return Allocation.LATER
        return Allocation.OK

    def _find(self, group: SequenceGroup) -> list[int]:
        return self.index.find(group) if self.prefix_caching or self.index.pinned else []

    def _on_host(self, group: SequenceGroup) -> Items[Key]:
        """The contents of the prompt's blocks, after those on the device, that the host has."""
        if self.tiers is None:
            return ()
        keys = self.index.missing(group)
        return keys[: self.tiers.find(keys)]

    def is_ready(self, group: SequenceGroup) -> bool:
        return self.tiers is None or self.tiers.is_ready(group, self.index.missing(group))

    def _worst_case_blocks(self, group: SequenceGroup) -> int:
        """Blocks that the group needs if it shares only full prompt blocks."""
        blocks = self._num_blocks(group.worst_case_len)
        shared = min(group.prompt_len // self.block_size, blocks)
        return shared + group.num_sequences * (blocks - shared)

    def _num_needed(self, group: SequenceGroup) -> int:
        blocks, common = self._num_blocks(group.sequences[0].num_tokens), self._num_common(group)
        return common + group.num_sequences * (blocks - common)

    def can_finish(self, groups: Items[SequenceGroup]) -> bool:
        """While memory is short, a sequence grows only if a block is free, whether it needs one or not."""
        widest = max(group.num_sequences for group in groups)
        needed = sum(map(self._worst_case_blocks, groups)) + widest * self._blocks_per_append
        return needed <= self.pool.num_blocks - len(self.index.pinned)

    def _end_of_chunk(self, group: SequenceGroup, num_tokens: int) -> int:
        """The position up to which the prompt has slots if `num_tokens` tokens are computed first.

        Several sequences share their prompt, and have slots for all of it from the beginning.
        """
        whole_len = group.sequences[0].num_tokens
        if group.num_sequences > 1:
            return whole_len
        num_cached = self.index.num_computed(self._find(group)) + len(self._on_host(group))
        return min(num_cached * self.block_size + num_tokens, whole_len)

    def allocate(self, group: SequenceGroup) -> list[int]:
        """The first sequence gets the prompt's blocks; the others share them.

        Blocks on the host stay where they are until they have come back to blocks that are taken here.
        """
        return self.begin(group, group.sequences[0].num_tokens)

    def begin(self, group: SequenceGroup, num_tokens: int) -> list[int]:
        first, stop = group.sequences[0], self._end_of_chunk(group, num_tokens)
        if stop < first.num_tokens:
            self._begun[first] = stop
        num_common = min(self._num_common(group), self._num_blocks(stop))
        common_len = min(num_common * self.block_size, stop)
        found, on_host = self._find(group), self._on_host(group)
        claimed = [] if self.tiers is None else self.tiers.claim(on_host)
        if found:
            self._reuse(found)
        if self.prefix_caching:
            self.pool.policy.admitted(group.request.request_id)
        common = found + self.pool.take_all(num_common - len(found))
        self._num_tokens += common_len - len(found) * self.block_size
        num_cached = (self.index.num_computed(found) + len(claimed)) * self.block_size
        if self.tiers is not None:
            self.tiers.promote(claimed, common[len(found) : len(found) + len(claimed)])
            self.tiers.admitted(group)
        if self.prefix_caching or self.index.pinned:
            self.num_prefix_queried += first.num_tokens
            self.num_prefix_hits += num_cached
        for i, sequence in enumerate(group.sequences):
            for block in common if i else ():
                self._share(block)
            self._tables[sequence] = list(common)
            self._num_logical += len(common)
            self._take_tail(sequence)
        if common_len == stop:
            self._note_waste(first, common[-1], len(common) * self.block_size)
        return [num_cached, *(common_len for _ in group.sequences[1:])]

    def can_continue(self, group: SequenceGroup, num_tokens: int) -> bool:
        sequence = group.sequences[0]
        stop = min(self._held_len(sequence) + num_tokens, sequence.num_tokens)
        return self._num_blocks(stop) - len(self._tables[sequence]) <= self.pool.num_free

    def continue_prompt(self, group: SequenceGroup, num_tokens: int) -> None:
        sequence = group.sequences[0]
        start = self._begun.pop(sequence, sequence.num_tokens)
        stop = min(start + num_tokens, sequence.num_tokens)
        if stop < sequence.num_tokens:
            self._begun[sequence] = stop
        table = self._tables[sequence]
        if num_new := self._num_blocks(stop) - len(table):
            table += self.pool.take_all(num_new)
            self._num_logical += num_new
            self._note_waste(sequence, table[-1], len(table) * self.block_size)
        self._num_tokens += stop - start

    def _held_len(self, sequence: Sequence) -> int:
        return self._begun.get(sequence, sequence.num_tokens) if self._begun else sequence.num_tokens

    def mark_computed(self, sequence: Sequence, num_computed: int) -> None:
        if not (self.prefix_caching or self.index.pinned):
            return
        blocks = self._tables[sequence][: num_computed // self.block_size]
        self.index.uncomputed.difference_update(blocks)
        if self.prefix_caching:
            self.pool.keep(self.index.insert_prompt(sequence.group, blocks))

    def _take_tail(self, sequence: Sequence) -> None:
        """Give the sequence its own blocks after those that the group shares."""
        table, num_tokens = self._tables[sequence], self._held_len(sequence)
        num_new = self._num_blocks(num_tokens) - len(table)
        if num_new > 0:
            self._num_tokens += num_tokens - len(table) * self.block_size
            self._num_logical += num_new
            table += self.pool.take_all(num_new)
            self._note_waste(sequence, table[-1], len(table) * self.block_size)

    def prefill_len(self, group: SequenceGroup) -> int:
        num_tokens = group.sequences[0].num_tokens
        num_new = num_tokens
        if found := self._find(group):
            num_new -= self.index.num_computed(found) * self.block_size
        num_new -= len(self._on_host(group)) * self.block_size
        if group.num_sequences > 1:
            common_len = min(self._num_common(group) * self.block_size, num_tokens)
            num_new += (group.num_sequences - 1) * (num_tokens - common_len)
        return num_new

    def register_prefix(self, prefix: Prompt) -> None:
        """Pin blocks for the full blocks of a prefix; the first request with this prefix computes them."""
        for number, key in enumerate(prompt_keys(prefix, self.block_size)):
            self._pin([key], number)

    def finish(self, sequence: Sequence) -> None:
        """With `prefix_caching`, keep the full blocks, reply included, until they are evicted.

        Blocks of beams are not kept: the last step of a beam search moves no blocks, so the table may
        belong to another beam.
        """
        if self.prefix_caching and sequence.group.request.sampling.beam_width is None:
            self.pool.keep(self.index.insert_finished(sequence, self._tables[sequence]))
        self.free(sequence)

    def free(self, sequence: Sequence) -> None:
        super().free(sequence)
        self.index.drop_keys(sequence.group)
        self._begun.pop(sequence, None)
