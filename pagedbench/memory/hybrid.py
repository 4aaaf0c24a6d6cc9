"""Hybrid: paging for layers with windows, each group of which keeps and pays only what it still needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pagedbench.memory.grouped_index import Hit
from pagedbench.memory.manager import Allocation
from pagedbench.memory.placement import BlockTable
from pagedbench.memory.prefix import prompt_keys
from pagedbench.memory.swapping_groups import SwappingGroups
from pagedbench.memory.tiers import Tiers
from pagedbench.request import Status

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items
    from typing import Self

    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.moves import Copy
    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.prompt import Prompt
    from pagedbench.request import Request, Sequence, SequenceGroup


class Part(NamedTuple):
    """What a group gets slots for when it is admitted: positions `start` to the ends, in each layer group."""

    hit: Hit
    start: int
    stops: list[int]  # of the first sequence


class Hybrid(SwappingGroups):
    """`Paged` for several layer groups. A prompt that is computed whole has slots in every group meanwhile.

    What slid out is freed before the next iteration. With chunks (`PoolSpec.max_part_len`) a group with a
    window takes slots part by part, so its window and one part are the most that it holds; samples of one
    prompt share it, and have slots for all of it.
    """

    caches_prefixes: ClassVar[bool] = True
    has_tiers: ClassVar[bool] = True
    takes_parts: ClassVar[bool] = True

    def __init__(self, pool: PoolSpec) -> None:
        super().__init__(pool)
        self.max_model_len = pool.max_model_len
        self.prefix_caching = pool.prefix_caching
        self.cache_times = self.pool.times if pool.prefix_caching else None
        self._max_part_len = pool.max_part_len
        self._computed: list[Sequence] = []  # those that computed a part of their prompts in this iteration
        tiers = (pool.host_cache_slots // pool.block_size, pool.disk_cache_slots // pool.block_size)
        if pool.prefix_caching and any(tiers):
            landing = self._num_blocks(pool.max_model_len) * len(self.layer_groups)
            self.tiers = Tiers(pool.block_size, *tiers, landing_blocks=landing)

    @classmethod
    def build(cls, pool: PoolSpec) -> Self:
        return cls(pool)

    # The run around it

    def start_iteration(self, now: float) -> None:
        for sequence in self._computed:
            group = sequence.group
            if sequence in self._tables and not (group.num_left and group.num_sequences > 1):
                self._slide(sequence, sequence.num_tokens - sequence.num_left)
        self._computed = []
        if self.prefix_caching:
            self.pool.now = now
            self.pool.expire()

    def foresee(self, requests: Iterable[Request]) -> None:
        if self.prefix_caching and self.pool.policy.sees_future:
            numbers = range(len(self.layer_groups))
            prompts = ((item.request_id, prompt_keys(item.prompt, self.block_size)) for item in requests)
            self.pool.policy.foresee(
                {name: [(number, key) for key in keys for number in numbers] for name, keys in prompts}
            )

    @property
    def num_evicted(self) -> int:
        return self.pool.num_evicted

    # How much a group needs

    def _num_common(self, group: SequenceGroup) -> int:
        """Blocks that all sequences share: those of the prompt, but only full ones if it is recomputed."""
        prompt_len = group.prompt_len
        is_fresh = group.sequences[0].num_tokens == prompt_len
        return self._num_blocks(prompt_len) if is_fresh else prompt_len // self.block_size

    def _most_of(
        self, layers: LayerGroup, group: SequenceGroup, num_blocks: int, num_new: int | None
    ) -> int:
        """The most of the group's `num_blocks` blocks that a layer group holds at a time.

        Args:
            num_new: tokens that an iteration computes at most; None: all of them.
        """
        most = None if num_new is None else layers.most_blocks(num_new, self.block_size)
        return num_blocks if most is None else min(num_blocks, group.num_sequences * most)

    def _num_new(self, group: SequenceGroup) -> int | None:
        """The most tokens of the group that an iteration computes; None: all of its prompt."""
        return self._max_part_len if group.num_sequences == 1 else None

    def _worst_case(self, group: SequenceGroup, num_new: int | None) -> int:
        """Blocks that the group needs beside those that are pinned, if it shares only full prompt blocks."""
        blocks = self._num_blocks(group.worst_case_len)
        shared = min(group.prompt_len // self.block_size, blocks)
        own = shared + group.num_sequences * (blocks - shared)
        return sum(
            self._most_of(layers, group, own - pinned, num_new)
            for layers, pinned in zip(self.layer_groups, self.index.num_pinned(group), strict=True)
        )

    def can_finish(self, groups: Items[SequenceGroup]) -> bool:
        """Nobody computes a prompt again, since nobody is preempted; those that decode keep to their windows."""
        widest = max(group.num_sequences for group in groups)
        needed = widest * self._blocks_per_append * len(self.layer_groups)
        for group in groups:
            num_new = 1 if group.status is Status.RUNNING else self._num_new(group)
            needed += self._worst_case(group, num_new)
        return needed <= self.pool.num_blocks - len(self.index.pinned)

    # Admission

    def _find(self, group: SequenceGroup) -> Hit:
        if not (self.prefix_caching or self.index.pinned):
            return Hit(0, [{} for _ in self.layer_groups])
        return self.index.hit(group, None if self.tiers is None else self.tiers.is_on_host)

    def can_allocate(self, group: SequenceGroup) -> Allocation:
        return self._can_take(group, self._whole(group), self._num_new(group))

    def can_begin(self, group: SequenceGroup, num_tokens: int) -> Allocation:
        return self._can_take(group, self._first_part(group, num_tokens, num_tokens), None)

    def _whole(self, group: SequenceGroup) -> Part:
        hit, whole_len = self._find(group), group.sequences[0].num_tokens
        return Part(hit, hit.num_blocks * self.block_size, [whole_len] * len(self.layer_groups))

    def _first_part(self, group: SequenceGroup, full: int | None, windowed: int | None) -> Part:
        """The first part of the prompt, of `full` tokens where there is no window; None: the whole prompt."""
        part, whole_len = self._whole(group), group.sequences[0].num_tokens
        if group.num_sequences > 1:
            return part
        lens = [full if layers.window is None else windowed for layers in self.layer_groups]
        stops = [whole_len if own is None else min(part.start + own, whole_len) for own in lens]
        return part._replace(stops=stops)

    def _can_take(self, group: SequenceGroup, part: Part, num_new: int | None) -> Allocation:
        """Has the pool the blocks of the part now?

        Args:
            num_new: tokens that an iteration computes at most, and whose slots are taken later.
        """
        most = self.pool.num_blocks - self.watermark_blocks - len(self.index.pinned)
        if group.max_len > self.max_model_len or self._worst_case(group, self._num_new(group)) > most:
            self.index.drop_keys(group)
            return Allocation.NEVER
        num_taken, num_common = 0, self._num_common(group)
        for layers, found, stop in zip(self.layer_groups, part.hit.device, part.stops, strict=True):
            needed = sum(map(len, layers.blocks(part.start, stop, self.block_size)))
            num_tail = max(self._num_blocks(stop) - num_common, 0)
            needed += (group.num_sequences - 1) * num_tail
            num_taken += self._most_of(layers, group, needed, num_new) - len(found)
        num_taken += self.pool.num_idle(part.hit.blocks)  # idle ones count as free until they are shared
        if self.pool.num_free - num_taken < self.watermark_blocks:
            return Allocation.LATER
        return Allocation.OK

    def allocate(self, group: SequenceGroup) -> list[int]:
        return self._take(group, self._first_part(group, None, self._max_part_len))

    def begin(self, group: SequenceGroup, num_tokens: int) -> list[int]:
        return self._take(group, self._first_part(group, num_tokens, num_tokens))

    def _take(self, group: SequenceGroup, part: Part) -> list[int]:
        """The first sequence gets the prompt's blocks; the others share them."""
        first, num_common = group.sequences[0], self._num_common(group)
        if min(part.stops) < first.num_tokens:
            self._begun[first] = list(part.stops)
        stops = [min(num_common * self.block_size, stop) for stop in part.stops]
        common = self._take_common(group, part, stops)
        if self.prefix_caching or self.index.pinned:
            self.num_prefix_queried += first.num_tokens
            self.num_prefix_hits += part.start
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
            for table, start, stop in zip(self._tables[sequence], stops, part.stops, strict=True):
                if stop > start:
                    self._num_tokens += stop - start
                    self._extend(sequence, table, stop)
        for table, start, stop in zip(common, stops, part.stops, strict=True):
            if start == stop and table.blocks:
                self._note_waste(first, table)
        return [part.start, *(max(stops) for _ in group.sequences[1:])]

    def _take_common(self, group: SequenceGroup, part: Part, stops: list[int]) -> list[BlockTable]:
        """Tables of what the sequences of the group share, up to `stops`: found blocks, and new ones."""
        size, hit = self.block_size, part.hit
        claimed = [] if self.tiers is None else self.tiers.claim([key for *_, key in hit.elsewhere])
        self._reuse(hit.blocks)
        if self.prefix_caching:
            self.pool.policy.admitted(group.request.request_id)
        tables: list[BlockTable] = []
        blocks: dict[tuple[int, int], int] = {}  # by layer group and number in the prompt
        for i, (layers, found, stop) in enumerate(zip(self.layer_groups, hit.device, stops, strict=True)):
            sinks, window = layers.blocks(part.start, stop, size)
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

    # Later parts of a prompt

    def _stops(self, sequence: Sequence, num_tokens: int) -> list[int]:
        """Up to where a sequence has slots if its next part has `num_tokens` tokens."""
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

    # The cache of prefixes

    def mark_computed(self, sequence: Sequence, num_computed: int) -> None:
        if self._windows:
            self._computed.append(sequence)
        if not (self.prefix_caching or self.index.pinned):
            return
        tables, stop = self._tables[sequence], num_computed // self.block_size
        if self.index.uncomputed:
            numbered = (pair for table in tables for pair in table.numbered())
            self.index.uncomputed.difference_update(block for number, block in numbered if number < stop)
        if self.prefix_caching:
            self.pool.keep(self.index.insert_tables(sequence.group, tables, stop))
        if num_computed == sequence.num_tokens:
            self.index.drop_keys(sequence.group)

    def register_prefix(self, prefix: Prompt) -> None:
        """Pin blocks for the full blocks of a prefix, in every layer group, for the whole run."""
        for index, key in enumerate(prompt_keys(prefix, self.block_size)):
            for number in range(len(self.layer_groups)):
                block = self.pool.take()
                if self.index.insert([(number, key)], [block], first=index):
                    self.index.pinned.add(block)
                    self.index.uncomputed.add(block)
                    self._num_idle_pins += 1
                    self._num_tokens += self.block_size
                else:
                    self.pool.release(block)

    def finish(self, sequence: Sequence) -> None:
        """With `prefix_caching`, keep the full blocks that are there, reply included; not those of beams."""
        if self.prefix_caching and sequence.group.request.sampling.beam_width is None:
            self.pool.keep(self.index.insert_reply(sequence, self._tables[sequence]))
        self.free(sequence)

    # Tiers

    def _evicted(self, blocks: list[int]) -> None:
        keys = self.index.forget(blocks)
        if self.tiers is not None:
            for key, block in zip(keys, blocks, strict=True):
                self.tiers.store(key, block)

    def is_ready(self, group: SequenceGroup) -> bool:
        if self.tiers is None:
            return True
        hit = self.index.hit(group, self.tiers.holds)
        order = sorted(hit.elsewhere, key=lambda item: item[1])
        return self.tiers.is_ready(group, [key for *_, key in order])

    def take_moves(self) -> tuple[list[Copy], list[Copy]]:
        return ([], []) if self.tiers is None else self.tiers.take_moves()
