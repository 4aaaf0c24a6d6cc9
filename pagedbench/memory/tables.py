"""BlockTableManager: block tables that grow, share blocks and copy them on write (paper, 4.2-4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.memory.placement import BlockTable
from pagedbench.memory.prefix import PrefixIndex
from pagedbench.memory.ref_counted import RefCountedBlocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Sequence as Items

    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.memory.moves import Copy
    from pagedbench.request import Sequence, SequenceGroup


class BlockTableManager(RefCountedBlocks):
    """Gives a sequence a new block when its last one is full, and keeps running totals of what blocks hold.

    ::

        sequence   The cat sat on | the mat and sle | ep_ _ _ _
        table      [ 7,              2,               5 ]
        pool       0 1 [2] 3 4 [5] 6 [7] ...          any free block serves

    A block may be in several tables. A sequence that writes into a shared block first gets its own copy.
    """

    def __init__(self, num_blocks: int, block_size: int, eviction: EvictionPolicy | None = None) -> None:
        super().__init__(num_blocks, PrefixIndex(block_size), eviction)
        self.append_len = block_size
        self._tables: dict[Sequence, list[int]] = {}

    def _blocks_of(self, group: SequenceGroup) -> Iterable[int]:
        return (block for sequence in group.sequences for block in self._tables[sequence])

    def _held_len(self, sequence: Sequence) -> int:
        """Tokens for which the sequence has slots."""
        return sequence.num_tokens

    def room(self, sequence: Sequence) -> int:
        table = self._tables[sequence]
        if self.pool.num_owners(table[-1]) > 1:
            return 0
        room = len(table) * self.block_size - sequence.num_tokens
        return max(room - self._lookahead(sequence), 0) if self.num_lookahead else room

    def append(self, sequence: Sequence) -> list[Copy]:
        table, num_tokens = self._tables[sequence], sequence.num_tokens
        copies: list[Copy] = []
        if len(table) * self.block_size == num_tokens:
            self._take(sequence, table)
        elif self.pool.num_owners(table[-1]) > 1:
            copies = [self._copy_on_write(sequence, table, len(table) * self.block_size)]
        if self.num_lookahead:
            last = min(num_tokens + self._lookahead(sequence), sequence.group.final_len - 2)
            while len(table) * self.block_size <= last:  # the newest token of a reply is never stored
                self._take(sequence, table)
        return copies

    def append_all(self, due: Items[Sequence], now: float) -> tuple[int, int, int]:
        tables, pool, size = self._tables, self.pool, self.block_size
        pool.now = now
        for sequence in due:
            block, table = pool.take(), tables[sequence]
            table.append(block)
            end = len(table) * size
            if end > sequence.group.final_len:
                self._note_waste(sequence, block, end)
        self._num_logical += len(due)
        return pool.num_free * size, self._num_waste, pool.num_evicted

    def _take(self, sequence: Sequence, table: list[int]) -> None:
        block = self.pool.take()
        table.append(block)
        self._num_logical += 1
        end = len(table) * self.block_size
        if end > sequence.group.final_len:
            self._note_waste(sequence, block, end)

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
        """Release a table's blocks from number `start` on; the sequence has `num_tokens` tokens.

        The last come first: a later block is never found without those before it.
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

    def _tables_of_all(self) -> Iterator[tuple[Sequence, int, list[tuple[int, int]]]]:
        for sequence, table in self._tables.items():
            yield sequence, self._held_len(sequence), list(enumerate(table))


def _num_common(table: list[int], other: list[int]) -> int:
    """The number of blocks that both tables begin with."""
    for i, (block, same) in enumerate(zip(table, other, strict=False)):
        if block != same:
            return i
    return min(len(table), len(other))
