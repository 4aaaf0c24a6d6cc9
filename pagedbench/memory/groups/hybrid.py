"""Hybrid: paging for models with windows; each layer group holds only the blocks that it still needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pagedbench.memory.groups.caching import CachingGroups
from pagedbench.memory.manager import Allocation
from pagedbench.memory.placement import BlockTable
from pagedbench.request import Status

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from typing import Self

    from pagedbench.memory.groups.index import Hit
    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.request import Sequence, SequenceGroup


class Chunk(NamedTuple):
    """Tokens that a group gets slots for when it is admitted: from `start` to a stop per layer group."""

    hit: Hit
    start: int
    stops: list[int]  # of the first sequence


class Hybrid(CachingGroups):
    """`Paged` for several layer groups. A prompt that is computed whole has slots in every group meanwhile.

    Blocks before a window are freed before the next iteration. With chunks (`PoolSpec.max_chunk_len`) a
    group with a window holds at most its window and one chunk; several samples of one prompt share it, and
    have slots for all of it.
    """

    takes_chunks: ClassVar[bool] = True

    def __init__(self, pool: PoolSpec) -> None:
        super().__init__(pool)
        self.max_model_len = pool.max_model_len
        self._max_chunk_len = pool.max_chunk_len

    @classmethod
    def build(cls, pool: PoolSpec) -> Self:
        return cls(pool)

    # How much a group needs

    def _most_of(
        self, layers: LayerGroup, group: SequenceGroup, num_blocks: int, num_new: int | None
    ) -> int:
        """The most of the group's `num_blocks` blocks that a layer group holds at a time.

        Args:
            num_new: most tokens that an iteration computes; None: all of them.
        """
        most = None if num_new is None else layers.most_blocks(num_new, self.block_size)
        return num_blocks if most is None else min(num_blocks, group.num_sequences * most)

    def _num_new(self, group: SequenceGroup) -> int | None:
        """The most tokens of the group that an iteration computes; None: all of its prompt."""
        return self._max_chunk_len if group.num_sequences == 1 else None

    def _worst_case(self, group: SequenceGroup, num_new: int | None) -> int:
        """Blocks that the group needs besides pinned ones, if it shares only full blocks of its prompt."""
        blocks = self._num_blocks(group.worst_case_len)
        shared = min(group.prompt_len // self.block_size, blocks)
        own = shared + group.num_sequences * (blocks - shared)
        return sum(
            self._most_of(layers, group, own - pinned, num_new)
            for layers, pinned in zip(self.layer_groups, self.index.num_pinned(group), strict=True)
        )

    def can_finish(self, groups: Items[SequenceGroup]) -> bool:
        """Without preemptions no prompt is computed again, so decoding groups need only their windows."""
        widest = max(group.num_sequences for group in groups)
        needed = widest * self._blocks_per_append
        for group in groups:
            num_new = 1 if group.status is Status.RUNNING else self._num_new(group)
            needed += self._worst_case(group, num_new)
        return needed <= self.pool.num_blocks - len(self.index.pinned)

    # Admission

    def can_allocate(self, group: SequenceGroup) -> Allocation:
        return self._can_take(group, self._whole(group), self._num_new(group))

    def can_begin(self, group: SequenceGroup, num_tokens: int) -> Allocation:
        return self._can_take(group, self._first_chunk(group, num_tokens, num_tokens), None)

    def _whole(self, group: SequenceGroup) -> Chunk:
        hit, whole_len = self._find(group), group.sequences[0].num_tokens
        return Chunk(hit, hit.num_blocks * self.block_size, [whole_len] * len(self.layer_groups))

    def _first_chunk(self, group: SequenceGroup, full: int | None, windowed: int | None) -> Chunk:
        """The first chunk: `full` tokens in layers without a window, `windowed` in others; None: all."""
        chunk, whole_len = self._whole(group), group.sequences[0].num_tokens
        if group.num_sequences > 1:
            return chunk
        lens = [full if layers.window is None else windowed for layers in self.layer_groups]
        stops = [whole_len if own is None else min(chunk.start + own, whole_len) for own in lens]
        return chunk._replace(stops=stops)

    def _can_take(self, group: SequenceGroup, chunk: Chunk, num_new: int | None) -> Allocation:
        """Does the pool have the blocks of the chunk now?

        Args:
            num_new: most tokens that an iteration computes, if their slots are taken later.
        """
        most = self.pool.num_blocks - self.watermark_blocks - len(self.index.pinned)
        if group.max_len > self.max_model_len or self._worst_case(group, self._num_new(group)) > most:
            self.index.drop_keys(group)
            return Allocation.NEVER
        num_taken, num_common = 0, self._num_common(group)
        for layers, found, stop in zip(self.layer_groups, chunk.hit.device, chunk.stops, strict=True):
            needed = sum(map(len, layers.blocks(chunk.start, stop, self.block_size)))
            num_tail = max(self._num_blocks(stop) - num_common, 0)
            needed += (group.num_sequences - 1) * num_tail
            num_taken += self._most_of(layers, group, needed, num_new) - len(found)
        num_taken += self.pool.num_idle(chunk.hit.blocks)  # idle ones count as free until they are shared
        if self.pool.num_free - num_taken < self.watermark_blocks:
            return Allocation.LATER
        return Allocation.OK

    def allocate(self, group: SequenceGroup) -> list[int]:
        return self._take(group, self._first_chunk(group, None, self._max_chunk_len))

    def begin(self, group: SequenceGroup, num_tokens: int) -> list[int]:
        return self._take(group, self._first_chunk(group, num_tokens, num_tokens))

    def _take(self, group: SequenceGroup, chunk: Chunk) -> list[int]:
        """The first sequence gets the prompt's blocks; the others share them."""
        first, num_common = group.sequences[0], self._num_common(group)
        if min(chunk.stops) < first.num_tokens:
            self._begun[first] = list(chunk.stops)
        stops = [min(num_common * self.block_size, stop) for stop in chunk.stops]
        common = self._take_common(group, chunk, stops)
        if self.prefix_caching or self.index.pinned:
            self.num_prefix_queried += first.num_tokens
            self.num_prefix_hits += chunk.start
        for i, sequence in enumerate(group.sequences):
            if i:
                for table in common:
                    for block in table.blocks:
                        self._share(block)
            self._tables[sequence] = [
                BlockTable(list(table.blocks), self.block_size, table.first_position, table.num_sink_blocks)
                for table in common
            ]
            self._num_logical += sum(len(table.blocks) for table in common)
            for table, start, stop in zip(self._tables[sequence], stops, chunk.stops, strict=True):
                if stop > start:
                    self._num_tokens += stop - start
                    self._extend(sequence, table, stop)
        for table, start, stop in zip(common, stops, chunk.stops, strict=True):
            if start == stop and table.blocks:
                self._note_waste(first, table.blocks[-1], table.end)
        return [chunk.start, *(max(stops) for _ in group.sequences[1:])]

    def _take_common(self, group: SequenceGroup, chunk: Chunk, stops: list[int]) -> list[BlockTable]:
        """Tables of what the sequences of the group share, up to `stops`: found blocks, and new ones."""
        size, hit = self.block_size, chunk.hit
        claimed = [] if self.tiers is None else self.tiers.claim([key for *_, key in hit.elsewhere])
        self._reuse(hit.blocks)
        if self.prefix_caching:
            self.pool.policy.admitted(group.request.request_id)
        tables: list[BlockTable] = []
        blocks: dict[tuple[int, int], int] = {}  # by layer group and number in the prompt
        for i, (layers, found, stop) in enumerate(zip(self.layer_groups, hit.device, stops, strict=True)):
            sinks, window = layers.blocks(chunk.start, stop, size)
            numbers = [*sinks, *window]
            new = iter(self.pool.take_all(len(numbers) - len(found)))
            own = [found[number] if number in found else next(new) for number in numbers]
            for number, block in zip(numbers, own, strict=True):
                blocks[i, number] = block
                self._num_tokens += 0 if number in found else min(stop - number * size, size)
            num_sinks = layers.num_sink_blocks(size)
            tables.append(BlockTable(own, size, window.start * size, num_sinks))
        if self.tiers is not None:
            self.tiers.promote(claimed, [blocks[i, number] for i, number, _ in hit.elsewhere])
            self.tiers.admitted(group)
        return tables

    def prefill_len(self, group: SequenceGroup) -> int:
        num_tokens, num_found = group.sequences[0].num_tokens, self._find(group).num_blocks
        common_len = min(self._num_common(group) * self.block_size, num_tokens)
        return (
            group.num_sequences * num_tokens
            - num_found * self.block_size
            - (group.num_sequences - 1) * common_len
        )

    # Later chunks of a prompt

    def _stops(self, sequence: Sequence, num_tokens: int) -> list[int]:
        """The positions up to which a sequence has slots if its next chunk has `num_tokens` tokens."""
        stop = min(sequence.num_tokens - sequence.num_left + num_tokens, sequence.num_tokens)
        return [max(held, stop) for held in self._begun[sequence]]

    def can_continue(self, group: SequenceGroup, num_tokens: int) -> bool:
        sequence = group.sequences[0]
        if sequence not in self._begun:
            return True
        tables, stops = self._tables[sequence], self._stops(sequence, num_tokens)
        needed = (self._num_blocks(stop - table.end) for table, stop in zip(tables, stops, strict=True))
        return sum(max(number, 0) for number in needed) <= self.pool.num_free

    def continue_prompt(self, group: SequenceGroup, num_tokens: int) -> None:
        sequence = group.sequences[0]
        if sequence not in self._begun:
            return
        stops = self._stops(sequence, num_tokens)
        for table, held, stop in zip(self._tables[sequence], self._begun[sequence], stops, strict=True):
            self._num_tokens += stop - held
            self._extend(sequence, table, stop)
        self._begun[sequence] = stops
        if min(stops) == sequence.num_tokens:
            del self._begun[sequence]
