"""CachingGroups: a prefix cache for several layer groups, and the tiers that blocks are evicted to."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.groups.index import Hit
from pagedbench.memory.groups.swapping import SwappingGroups
from pagedbench.memory.prefix import prompt_keys
from pagedbench.memory.tiers import Tiers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.prompt import Prompt
    from pagedbench.request import Request, Sequence, SequenceGroup


class CachingGroups(SwappingGroups):
    """Finds blocks by layer group and content. In a group with a window, a hit needs what the window sees.

    Blocks that slide out of a window keep their content until they are evicted, so shorter hits find them.
    """

    caches_prefixes: ClassVar[bool] = True
    has_tiers: ClassVar[bool] = True

    def __init__(self, pool: PoolSpec) -> None:
        super().__init__(pool)
        self.prefix_caching = pool.prefix_caching
        self.cache_times = self.pool.times if pool.prefix_caching else None
        self._computed: list[Sequence] = []  # those that computed tokens of their prompts in this iteration
        tiers = (pool.host_cache_slots // pool.block_size, pool.disk_cache_slots // pool.block_size)
        if pool.prefix_caching and any(tiers):
            landing = self._num_blocks(pool.max_model_len) * len(self.layer_groups)
            self.tiers = Tiers(pool.block_size, *tiers, landing_blocks=landing)

    # The run around it

    def start_iteration(self, now: float) -> None:
        """Free the blocks that a prompt needed only while it was computed."""
        for sequence in self._computed:
            group = sequence.group
            if sequence in self._tables and not (group.num_left and group.num_sequences > 1):
                self._slide(sequence, sequence.num_tokens - sequence.num_left)
        self._computed = []
        super().start_iteration(now)

    def foresee(self, requests: Iterable[Request]) -> None:
        if self.prefix_caching and self.pool.policy.sees_future:
            numbers = range(len(self.layer_groups))
            prompts = ((item.request_id, prompt_keys(item.prompt, self.block_size)) for item in requests)
            self.pool.policy.foresee(
                {name: [(number, key) for key in keys for number in numbers] for name, keys in prompts}
            )

    # The cache of prefixes

    def _find(self, group: SequenceGroup) -> Hit:
        if not (self.prefix_caching or self.index.pinned):
            return Hit(0, [{} for _ in self.layer_groups])
        return self.index.hit(group, None if self.tiers is None else self.tiers.is_on_host)

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

    def register_prefix(self, prefix: Prompt) -> None:
        """Pin blocks for the full blocks of a prefix, in every layer group, for the whole run."""
        numbers = range(len(self.layer_groups))
        for index, key in enumerate(prompt_keys(prefix, self.block_size)):
            self._pin([(number, key) for number in numbers], index)

    def finish(self, sequence: Sequence) -> None:
        """With `prefix_caching`, keep the full blocks still held, those of the reply too; not of beams."""
        if self.prefix_caching and sequence.group.request.sampling.beam_width is None:
            self.pool.keep(self.index.insert_reply(sequence, self._tables[sequence]))
        self.free(sequence)

    # Tiers

    def is_ready(self, group: SequenceGroup) -> bool:
        if self.tiers is None:
            return True
        hit = self.index.hit(group, self.tiers.holds)
        order = sorted(hit.elsewhere, key=lambda item: item[1])
        return self.tiers.is_ready(group, [key for *_, key in order])
