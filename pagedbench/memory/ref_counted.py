"""RefCountedBlocks: blocks that sequences share, what they hold, and when their contents are lost."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.block_pool import BlockPool
from pagedbench.memory.eviction import CachedBlock
from pagedbench.memory.manager import KVManager
from pagedbench.memory.moves import Copy
from pagedbench.memory.usage import MemoryUsage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Sequence as Items

    from pagedbench.memory.cache_observer import CacheObserver
    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.memory.prefix import Key, PrefixIndex
    from pagedbench.request import Sequence, SequenceGroup


class RefCountedBlocks(KVManager):
    """Running totals of the blocks of one pool. Subclasses keep the tables of the blocks of each sequence.

    A block may be in several tables, and its content may be found again after the last one released it.
    """

    attention: ClassVar[str] = "paged"
    prefix_caching: bool = False

    def __init__(self, num_blocks: int, index: PrefixIndex, eviction: EvictionPolicy | None) -> None:
        self.block_size = index.block_size
        self.index = index
        self.pool = BlockPool(num_blocks, self._evicted, eviction)
        self.num_slots = num_blocks * self.block_size
        self._num_tokens = 0  # distinct slots that hold a token, those before a window included
        self._num_logical = 0  # blocks of all tables; a shared one counts once per table
        self._num_idle_pins = 0  # pinned blocks that no table holds
        self._waste: dict[int, int] = {}  # last blocks -> slots that their owner will never fill
        self._num_waste = 0

    @abstractmethod
    def _blocks_of(self, group: SequenceGroup) -> Iterable[int]:
        """The blocks in all tables of the group; a shared one once per table."""

    def num_reclaimable(self, group: SequenceGroup) -> int:
        owners, held = self.pool.num_owners, Counter(self._blocks_of(group))
        return self.block_size * sum(owners(block) == number for block, number in held.items())

    def num_held_slots(self, group: SequenceGroup) -> int:
        return self.block_size * len(set(self._blocks_of(group)))

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _num_common(self, group: SequenceGroup) -> int:
        """Blocks that all sequences share: those of the prompt, but only full ones if it is recomputed."""
        prompt_len = group.prompt_len
        is_fresh = group.sequences[0].num_tokens == prompt_len
        return self._num_blocks(prompt_len) if is_fresh else prompt_len // self.block_size

    # Owners

    def _share(self, block: int) -> None:
        if block in self.index.pinned and self.pool.num_owners(block) == 1:
            self._num_idle_pins -= 1
        if self.pool.share(block):
            self._num_tokens += self.block_size

    def _reuse(self, found: list[int]) -> None:
        """Share blocks whose contents were found in the cache."""
        if pinned := self.index.pinned:
            owners = self.pool.num_owners
            self._num_idle_pins -= sum(block in pinned and owners(block) == 1 for block in found)
        self._num_tokens += self.block_size * self.pool.reuse(found)

    def _release(self, block: int, num_tokens: int) -> None:
        """Remove an owner from a block that holds `num_tokens` tokens."""
        if self.pool.release(block):
            self._num_tokens -= num_tokens
            self._num_waste -= self._waste.pop(block, 0)
        elif block in self.index.pinned and self.pool.num_owners(block) == 1:
            self._num_idle_pins += 1

    def _copy_on_write(self, sequence: Sequence, blocks: list[int], end: int) -> Copy:
        """Replace the last block of a table, which it shares with others, by a copy to write into."""
        shared, size = blocks[-1], self.block_size
        self.pool.release(shared)
        blocks[-1] = self.pool.take()
        num_copied = sequence.num_tokens % size
        self._num_tokens += num_copied
        self._note_waste(sequence, blocks[-1], end)
        return Copy(shared * size, blocks[-1] * size, num_copied)

    def _note_waste(self, sequence: Sequence, block: int, end: int) -> None:
        """Count the slots of a table's newest block, up to position `end`, that will never be filled."""
        waste = end - sequence.group.final_len
        if waste > 0:
            self._waste[block] = waste
            self._num_waste += waste

    # Growth

    @property
    def _blocks_per_append(self) -> int:
        """The most blocks that one call of `append` takes."""
        return (1 + -(-self.num_lookahead // self.block_size)) * len(self.layer_groups)

    @property
    def num_appendable(self) -> int:
        return self.pool.num_free // self._blocks_per_append

    # Contents that are found again

    def start_iteration(self, now: float) -> None:
        if self.prefix_caching:
            self.pool.now = now
            self.pool.expire()

    @property
    def num_evicted(self) -> int:
        return self.pool.num_evicted

    def observe_cache(self, observer: CacheObserver) -> None:
        self.index.observer = observer
        observer.kept([CachedBlock(block) for block in sorted(self.index.pinned)])

    def _evicted(self, blocks: list[int]) -> None:
        """These idle blocks lose their content."""
        keys = self.index.forget(blocks)
        if self.tiers is not None:
            for key, block in zip(keys, blocks, strict=True):
                self.tiers.store(key, block)

    def take_moves(self) -> tuple[list[Copy], list[Copy]]:
        return ([], []) if self.tiers is None else self.tiers.take_moves()

    def _pin(self, keys: Items[Key], number: int) -> None:
        """Pin a block for each of these contents of block `number` of a prefix, unless there is one."""
        for key in keys:
            block = self.pool.take()
            if self.index.insert([key], [block], first=number):
                self.index.pinned.add(block)
                self.index.uncomputed.add(block)
                self._num_idle_pins += 1
                self._num_tokens += self.block_size
            else:
                self.pool.release(block)

    # Usage

    @property
    def num_owned(self) -> int:
        return (self.pool.num_used - self._num_idle_pins) * self.block_size

    def _num_dead(self) -> int:
        """Slots that hold a token which no query sees any more."""
        return 0

    def usage(self, *, head_refused: bool) -> MemoryUsage:
        """Slots that hold a token which no query sees any more count as internal fragmentation."""
        size, dead, num_tokens = self.block_size, self._num_dead(), self._num_tokens
        taken = self.pool.num_used * size
        return MemoryUsage(
            num_tokens - dead,
            taken - num_tokens - self._num_waste,  # reserved
            self._num_waste + dead,  # internal
            0,  # rounding
            0,  # unusable: any request can use any free block
            self.num_slots - taken,
            (self._num_logical + self._num_idle_pins) * size - taken,  # shared
        )

    @abstractmethod
    def _tables_of_all(self) -> Iterator[tuple[Sequence, int, list[tuple[int, int]]]]:
        """Every table: whose it is, tokens that have slots, and blocks by their number in the sequence."""

    def check_integrity(self) -> None:
        size = self.block_size
        owners = dict.fromkeys(self.index.pinned, 1)
        filled = dict.fromkeys(self.index.pinned, size)  # block -> tokens in it
        waste: dict[int, int] = {}
        num_logical = 0
        for sequence, held, blocks in self._tables_of_all():
            num_logical += len(blocks)
            for number, block in blocks:
                owners[block] = owners.get(block, 0) + 1
                filled[block] = max(filled.get(block, 0), min(held - number * size, size))
                unused = min((number + 1) * size - sequence.group.final_len, size)
                if unused > 0:
                    waste[block] = unused
            num_more = blocks[-1][0] + 1 - self._num_blocks(held)
            most = self._blocks_per_append // len(self.layer_groups)
            assert 0 <= num_more < most, f"{sequence} has {len(blocks)} blocks"
        self.pool.check_integrity(owners)
        self.index.check_integrity()
        if self.tiers is not None:
            self.tiers.check_integrity()
        idle_pins = sum(owners[block] == 1 for block in self.index.pinned)
        assert self._num_idle_pins == idle_pins, "pinned blocks without a user do not match"
        assert self._num_tokens == sum(filled.values()), "tokens do not match the tables"
        assert self._num_logical == num_logical, "logical blocks do not match"
        assert self._waste == waste, "slack behind the last tokens does not match"
        assert self._num_waste == sum(waste.values()), "the sum of the slack does not match"
