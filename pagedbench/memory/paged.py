"""Paged: admission by free blocks, prefix caching, and swapping (paper, sections 4.2-4.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pagedbench.memory.manager import WATERMARK, Allocation, Copy, Pool, worst_case_len
from pagedbench.memory.prefix import prompt_keys
from pagedbench.memory.swap import HostTables
from pagedbench.memory.tables import BlockTableManager
from pagedbench.memory.tiers import Tiers

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from typing import Self

    from pagedbench.memory.manager import PoolSpec
    from pagedbench.memory.prefix import Key
    from pagedbench.prompt import Prompt
    from pagedbench.request import Sequence, SequenceGroup


class Paged(BlockTableManager):
    """Admits a group if its prompt leaves the watermark free; groups may be swapped to the host and back.

    Sequences of a group share the blocks of their prompt. Registered prefixes are pinned. With
    `prefix_caching`, the full blocks of prompts and finished sequences are found again by their content
    until they are evicted.
    """

    swaps: ClassVar[bool] = True
    caches_prefixes: ClassVar[bool] = True
    has_tiers: ClassVar[bool] = True
    has_watermark: ClassVar[bool] = True

    def __init__(
        self,
        num_slots: int,
        block_size: int,
        max_model_len: int,
        *,
        host_slots: int | None = None,
        prefix_caching: bool = False,
        watermark: float = WATERMARK,
        host_cache_slots: int = 0,
        disk_cache_slots: int = 0,
    ) -> None:
        """Make an empty manager.

        Args:
            host_slots: tokens in the host pool for swapping, as many as on the device if None.
            watermark: share of the blocks that admission leaves free for running sequences to grow.
            host_cache_slots, disk_cache_slots: capacities of the tiers that evicted blocks go to.
        """
        self.max_model_len = max_model_len
        self.prefix_caching = prefix_caching
        super().__init__(num_slots // block_size, block_size)
        host_blocks = self.pool.num_blocks if host_slots is None else host_slots // block_size
        self.host = HostTables(host_blocks)
        self.num_host_slots = host_blocks * block_size
        self.watermark_blocks = int(watermark * self.pool.num_blocks)
        if prefix_caching and host_cache_slots + disk_cache_slots >= block_size:
            tiers = (host_cache_slots // block_size, disk_cache_slots // block_size)
            self.tiers = Tiers(block_size, *tiers, landing_blocks=self._num_blocks(max_model_len))

    @classmethod
    def build(cls, pool: PoolSpec) -> Self:
        """An empty manager. A subclass with another constructor gets only the options that are set."""
        options: dict[str, Any] = {}
        if pool.host_slots is not None:
            options["host_slots"] = pool.host_slots
        if pool.prefix_caching:
            options["prefix_caching"] = True
        if pool.watermark != WATERMARK:
            options["watermark"] = pool.watermark
        if pool.host_cache_slots or pool.disk_cache_slots:
            options["host_cache_slots"] = pool.host_cache_slots
            options["disk_cache_slots"] = pool.disk_cache_slots
        return cls(pool.num_slots, pool.block_size, pool.max_model_len, **options)

    # Admission

    def can_allocate(self, group: SequenceGroup) -> Allocation:
        found = self._find(group)
        most = self.pool.num_blocks - self.watermark_blocks
        if self.index.pinned:
            most -= len(self.index.pinned.difference(found))
        if group.max_len > self.max_model_len or self._worst_case_blocks(group) > most:
            self.index.drop_keys(group)
            return Allocation.NEVER
        num_taken = self._num_needed(group)
        if found:  # idle ones count as free until they are shared
            num_taken -= len(found) - self.pool.num_idle(found)
        if self.pool.num_free - num_taken < self.watermark_blocks:
            return Allocation.LATER
        return Allocation.OK

    def _find(self, group: SequenceGroup) -> list[int]:
        return self.index.find(group) if self.prefix_caching or self.index.pinned else []

    def _evicted(self, blocks: list[int]) -> None:
        keys = self.index.forget(blocks)
        if self.tiers is not None:
            for key, block in zip(keys, blocks, strict=True):
                self.tiers.store(key, block)

    def _on_host(self, group: SequenceGroup) -> Items[Key]:
        """The contents of the prompt's blocks, behind those of the device, that the host has."""
        if self.tiers is None:
            return ()
        keys = self.index.missing(group)
        return keys[: self.tiers.find(keys)]

    def is_ready(self, group: SequenceGroup) -> bool:
        return self.tiers is None or self.tiers.is_ready(group, self.index.missing(group))

    def take_moves(self) -> tuple[list[Copy], list[Copy]]:
        return ([], []) if self.tiers is None else self.tiers.take_moves()

    def _worst_case_blocks(self, group: SequenceGroup) -> int:
        """Blocks that the group needs if it shares only full prompt blocks."""
        blocks = self._num_blocks(worst_case_len(group))
        shared = min(group.prompt_len // self.block_size, blocks)
        return shared + group.num_sequences * (blocks - shared)

    def _num_common(self, group: SequenceGroup) -> int:
        """Blocks that all sequences share: those of the prompt, but only full ones if it is recomputed."""
        prompt_len = group.prompt_len
        is_fresh = group.sequences[0].num_tokens == prompt_len
        return self._num_blocks(prompt_len) if is_fresh else prompt_len // self.block_size

    def _num_needed(self, group: SequenceGroup) -> int:
        blocks, common = self._num_blocks(group.sequences[0].num_tokens), self._num_common(group)
        return common + group.num_sequences * (blocks - common)

    def allocate(self, group: SequenceGroup) -> list[int]:
        """The first sequence gets the prompt's blocks; the others share them.

        Blocks on the host stay where they are until they have come back to blocks that are taken here.
        """
        num_tokens, num_common = group.sequences[0].num_tokens, self._num_common(group)
        common_len = min(num_common * self.block_size, num_tokens)
        found, on_host = self._find(group), self._on_host(group)
        claimed = [] if self.tiers is None else self.tiers.claim(on_host)
        for block in found:
            self._share(block)
        common = found + self.pool.take_all(num_common - len(found))
        self._num_tokens += common_len - len(found) * self.block_size
        num_cached = (self.index.num_computed(found) + len(claimed)) * self.block_size
        if self.tiers is not None:
            self.tiers.promote(claimed, common[len(found) : len(found) + len(claimed)])
            self.tiers.admitted(group)
        if self.prefix_caching or self.index.pinned:
            self.num_prefix_queried += num_tokens
            self.num_prefix_hits += num_cached
        for i, sequence in enumerate(group.sequences):
            for block in common if i else ():
                self._share(block)
            self._tables[sequence] = list(common)
            self._num_logical += len(common)
            self._take_tail(sequence)
        if common_len == num_tokens:
            self._note_waste(group.sequences[0], common)
        return [num_cached, *(common_len for _ in group.sequences[1:])]

    def mark_computed(self, sequence: Sequence, num_computed: int) -> None:
        if not (self.prefix_caching or self.index.pinned):
            return
        blocks = self._tables[sequence][: num_computed // self.block_size]
        self.index.uncomputed.difference_update(blocks)
        if self.prefix_caching:
            self.pool.keep(self.index.insert_prompt(sequence.group, blocks))
        if num_computed == sequence.num_tokens:
            self.index.drop_keys(sequence.group)

    def _take_tail(self, sequence: Sequence) -> None:
        """Give the sequence its own blocks after those that the group shares."""
        table, num_tokens = self._tables[sequence], sequence.num_tokens
        num_new = self._num_blocks(num_tokens) - len(table)
        if num_new > 0:
            self._num_tokens += num_tokens - len(table) * self.block_size
            self._num_logical += num_new
            table += self.pool.take_all(num_new)
            self._note_waste(sequence, table)

    def prefill_len(self, group: SequenceGroup) -> int:
        num_tokens = group.sequences[0].num_tokens
        num_new = num_tokens
        if found := self._find(group):
            num_new -= self.index.num_computed(found) * self.block_size
        if self.tiers is not None:
            num_new -= len(self._on_host(group)) * self.block_size
        if group.num_sequences > 1:
            common_len = min(self._num_common(group) * self.block_size, num_tokens)
            num_new += (group.num_sequences - 1) * (num_tokens - common_len)
        return num_new

    def register_prefix(self, prefix: Prompt) -> None:
        """Pin blocks for the full blocks of a prefix; the first request with this prefix computes them."""
        for key in prompt_keys(prefix, self.block_size):
            block = self.pool.take()
            if self.index.insert([key], [block]):
                self.index.pinned.add(block)
                self.index.uncomputed.add(block)
                self._num_idle_pins += 1
                self._num_tokens += self.block_size
            else:
                self.pool.release(block)

    def finish(self, sequence: Sequence) -> None:
        """With `prefix_caching`, keep the full blocks, reply included, until they are evicted.

        Blocks of beams are not kept: the last step of a beam search moves no blocks, so the table may
        belong to another beam.
        """
        if self.prefix_caching and sequence.group.request.sampling.beam_width is None:
            self.pool.keep(self.index.insert_finished(sequence, self._tables[sequence]))
        self.free(sequence)

    def free(self, sequence: Sequence) -> None:
        if sequence in self._tables:
            super().free(sequence)
        else:
            self.host.remove(sequence)

    # Swapping

    def can_swap_out(self, group: SequenceGroup) -> bool:
        blocks = {block for sequence in group.sequences for block in self._tables[sequence]}
        return len(blocks - self.index.pinned) <= self.host.pool.num_free

    def swap_out(self, group: SequenceGroup) -> list[Copy]:
        size = self.block_size
        moved: dict[int, int] = {}
        moves = []
        for sequence in group.sequences:
            for block in self.host.add(sequence, self._tables[sequence], moved, self.index.pinned):
                moves.append(Copy(block * size, moved[block] * size, size, Pool.DEVICE, Pool.HOST))
        for sequence in group.sequences:
            self.free(sequence)
        return moves

    def can_swap_in(self, group: SequenceGroup) -> bool:
        entries = {entry for sequence in group.sequences for entry in self.host.entries(sequence)}
        needed = sum(not entry.is_pinned for entry in entries)
        if not self._tables:
            return needed <= self.pool.num_free
        num_grown = group.num_sequences * self._blocks_per_append
        return self.pool.num_free - needed - num_grown >= self.watermark_blocks

    def swap_in(self, group: SequenceGroup) -> list[Copy]:
        """Each shared block comes back once, and is shared again."""
        size = self.block_size
        moved: dict[int, int] = {}
        moves = []
        for sequence in group.sequences:
            table: list[int] = []
            for i, (number, is_pinned) in enumerate(self.host.entries(sequence)):
                if is_pinned or number in moved:
                    table.append(number if is_pinned else moved[number])
                    self._share(table[-1])
                    continue
                table.append(self.pool.take())
                moved[number] = table[-1]
                moves.append(Copy(number * size, table[-1] * size, size, Pool.HOST, Pool.DEVICE))
                self._num_tokens += max(min(sequence.num_tokens - i * size, size), 0)
                self._note_waste(sequence, table)
            self._tables[sequence] = table
            self._num_logical += len(table)
            self.host.remove(sequence)
        return moves

    def check_integrity(self) -> None:
        super().check_integrity()
        self.host.check_integrity()
        if self.tiers is not None:
            self.tiers.check_integrity()
