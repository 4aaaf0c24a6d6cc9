"""BlockTableManager: block tables that grow, share blocks and copy them on write (paper, 4.2-4.4)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.block_pool import BlockPool
from pagedbench.memory.eviction import CachedBlock
from pagedbench.memory.manager import KVManager
from pagedbench.memory.moves import Copy
from pagedbench.memory.placement import BlockTable
from pagedbench.memory.prefix import PrefixIndex
from pagedbench.memory.usage import MemoryUsage

if TYPE_CHECKING:
    from pagedbench.memory.cache_observer import CacheObserver
    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.request import Sequence, SequenceGroup


class BlockTableManager(KVManager):
    """Gives a sequence a new block when its last one is full, and keeps running totals of what blocks hold.

    ::

        sequence   The cat sat on | the mat and sle | ep_ _ _ _
        table      [ 7,              2,               5 ]
        pool       0 1 [2] 3 4 [5] 6 [7] ...          any free block serves

    A block may stand in several tables. A sequence that writes into a shared block first gets its own copy.
    """

    attention: ClassVar[str] = "paged"

    def __init__(self, num_blocks: int, block_size: int, eviction: EvictionPolicy | None = None) -> None:
        self.block_size = block_size
        self.index = PrefixIndex(block_size)
        self.pool = BlockPool(num_blocks, self._evicted, eviction)
        self.num_slots = num_blocks * block_size
        self._tables: dict[Sequence, list[int]] = {}
        self._num_tokens = 0  # distinct slots that hold a token in use
        self._num_logical = 0  # blocks of all tables; a shared one counts once a table
        self._num_idle_pins = 0  # pinned blocks that no table holds
        self._waste: dict[int, int] = {}  # last blocks -> slots that their owner will never fill
        self._num_waste = 0

    def observe_cache(self, observer: CacheObserver) -> None:
        self.index.observer = observer
        observer.kept([CachedBlock(block) for block in sorted(self.index.pinned)])

    def _evicted(self, blocks: list[int]) -> None:
        """These idle blocks lose their content."""
        self.index.forget(blocks)

    def num_reclaimable(self, group: SequenceGroup) -> int:
        held = Counter(block for sequence in group.sequences for block in self._tables[sequence])
        owners = self.pool.num_owners
        return self.block_size * sum(owners(block) == number for block, number in held.items())

    def num_held_slots(self, group: SequenceGroup) -> int:
        held = {block for sequence in group.sequences for block in self._tables[sequence]}
        return self.block_size * len(held)

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _held_len(self, sequence: Sequence) -> int:
        """Tokens for which the sequence has slots."""
        return sequence.num_tokens

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

    def _note_waste(self, sequence: Sequence, table: list[int]) -> None:
        """Count the slots of the newest block that the sequence will never fill."""
        waste = len(table) * self.block_size - sequence.group.final_len
        if waste > 0:
            self._waste[table[-1]] = waste
            self._num_waste += waste

    def room(self, sequence: Sequence) -> int:
        table = self._tables[sequence]
        if self.pool.num_owners(table[-1]) > 1:
            return 0
        room = len(table) * self.block_size - sequence.num_tokens
        return max(room - self._lookahead(sequence), 0) if self.num_lookahead else room

    def _lookahead(self, sequence: Sequence) -> int:
        """Beams get one token a step, all others up to `num_lookahead` more."""
        return self.num_lookahead if sequence.group.request.sampling.beam_width is None else 0

    @property
    def _blocks_per_append(self) -> int:
        """The most blocks that one call of `append` takes."""
        return 1 + -(-self.num_lookahead // self.block_size)

    @property
    def num_appendable(self) -> int:
        return self.pool.num_free // self._blocks_per_append

    def append(self, sequence: Sequence) -> list[Copy]:
        table, num_tokens = self._tables[sequence], sequence.num_tokens
        copies = []
        if len(table) * self.block_size == num_tokens:
            self._take(sequence, table)
        elif self.pool.num_owners(table[-1]) > 1:
            copies = self._copy_on_write(sequence, table)
        if self.num_lookahead:
            last = min(num_tokens + self._lookahead(sequence), sequence.group.final_len - 2)
            while len(table) * self.block_size <= last:  # the newest token of a reply is never stored
                self._take(sequence, table)
        return copies

    def _take(self, sequence: Sequence, table: list[int]) -> None:
        table.append(self.pool.take())
        self._num_logical += 1
        self._note_waste(sequence, table)

    def _copy_on_write(self, sequence: Sequence, table: list[int]) -> list[Copy]:
        """Replace the last block, which others share, by a copy to write into."""
        shared, size = table[-1], self.block_size
        self.pool.release(shared)
        table[-1] = self.pool.take()
        num_copied = sequence.num_tokens % size
        self._num_tokens += num_copied
        self._note_waste(sequence, table)
        return [Copy(shared * size, table[-1] * size, num_copied)]

    def advance(self, num_sequences: int) -> None:
        self._num_tokens += num_sequences

    def fork(self, parent: Sequence, child: Sequence) -> list[Copy]:
        table, old = self._tables[parent], self._tables.get(child, [])
        start = _num_common(table, old)  # beams differ in their last blocks
        for block in table[start:]:
            self._share(block)
        self._release_from(start, old, child.num_tokens)
        self._tables[child] = list(table)
        self._num_logical += len(table) - len(old)
        return []

    def free(self, sequence: Sequence) -> None:
        table = self._tables.pop(sequence)
        self._num_logical -= len(table)
        self._release_from(0, table, self._held_len(sequence))

    def _release_from(self, start: int, table: list[int], num_tokens: int) -> None:
        """Let go of a table's blocks from number `start` on, of a sequence with `num_tokens` tokens.

        The last come first: a prefix without its beginning is never found again.
        """
        num_full = num_tokens // self.block_size
        for i in reversed(range(max(start, num_full), len(table))):
            self._release(table[i], max(num_tokens - i * self.block_size, 0))
        full = table[start:num_full][::-1]
        if self.index.pinned:
            for block in full:
                self._release(block, self.block_size)
        else:  # full blocks have no slot that is never filled
            self._num_tokens -= self.block_size * self.pool.release_all(full)

    def placement(self, sequence: Sequence, layer_group: int = 0) -> BlockTable:
        return BlockTable(self._tables[sequence], self.block_size)

    @property
    def num_owned(self) -> int:
        return (self.pool.num_used - self._num_idle_pins) * self.block_size

    def usage(self, *, head_refused: bool) -> MemoryUsage:
        size = self.block_size
        taken = self.pool.num_used * size
        return MemoryUsage(
            token_states=self._num_tokens,
            reserved=taken - self._num_tokens - self._num_waste,
            internal=self._num_waste,
            rounding=0,
            unusable=0,  # any request can use any free block
            free=self.num_slots - taken,
            shared=self._num_logical * size - self.num_owned,
        )

    def check_integrity(self) -> None:
        size = self.block_size
        owners = dict.fromkeys(self.index.pinned, 1)
        filled = dict.fromkeys(self.index.pinned, size)  # block -> tokens in it
        waste: dict[int, int] = {}
        for sequence, table in self._tables.items():
            num_tokens = self._held_len(sequence)
            num_more = len(table) - self._num_blocks(num_tokens)
            assert 0 <= num_more < self._blocks_per_append, f"{sequence} has {len(table)} blocks"
            for i, block in enumerate(table):
                owners[block] = owners.get(block, 0) + 1
                filled[block] = max(filled.get(block, 0), min(num_tokens - i * size, size))
                unused = min((i + 1) * size - sequence.group.final_len, size)
                if unused > 0:
                    waste[block] = unused
        self.pool.check_integrity(owners)
        self.index.check_integrity()
        idle_pins = sum(owners[block] == 1 for block in self.index.pinned)
        assert self._num_idle_pins == idle_pins, "pinned blocks without a user do not match"
        assert self._num_tokens == sum(filled.values()), "token states do not match the tables"
        assert self._num_logical == sum(map(len, self._tables.values())), "logical blocks do not match"
        assert self._waste == waste, "slack behind the last tokens does not match"
        assert self._num_waste == sum(waste.values()), "the sum of the slack does not match"


def _num_common(table: list[int], other: list[int]) -> int:
    """The number of blocks that both tables begin with."""
    for i, (block, same) in enumerate(zip(table, other, strict=False)):
        if block != same:
            return i
    return min(len(table), len(other))
