"""GroupTables: a block table for each sequence and layer group, over one pool of blocks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pagedbench.memory.groups.dead_slots import num_dead, num_dead_shared
from pagedbench.memory.groups.index import GroupedIndex
from pagedbench.memory.placement import BlockTable
from pagedbench.memory.ref_counted import RefCountedBlocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pagedbench.memory.moves import Copy
    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.request import Sequence, SequenceGroup


class GroupTables(RefCountedBlocks):
    """Gives a sequence a block per layer group when the last ones are full; frees those before a window.

    ::

        block size 4, 21 tokens
        all layers    [ 7,       2,       5,        9,         0,         4  ]
        window 6                                  [ 3,         8,         1  ]
        positions    0 .. 3   4 .. 7   8 .. 11   12 .. 15   16 .. 19   20 .. 23

    With the token at position 21 the window begins at 16, and block 3 is free.

    Groups have equal numbers of layers, so any free block serves any of them. The tables of a sequence end
    at the same position; those of groups with the same window also begin at the same one. Sharing and
    copy-on-write are those of `RefCountedBlocks`.
    """

    index: GroupedIndex

    def __init__(self, pool: PoolSpec) -> None:
        index = GroupedIndex(pool.block_size, pool.layer_groups)
        super().__init__(pool.num_slots // pool.block_size, index, pool.eviction)
        self.layer_groups = pool.layer_groups
        self._tables: dict[Sequence, list[BlockTable]] = {}
        self._begun: dict[
            Sequence, list[int]
        ] = {}  # by layer group, tokens with slots, if not all have one
        kinds = [(group.window, group.sinks) for group in self.layer_groups]
        self._windows = [  # the first group of each, its window, and how many groups have the same one
            (kinds.index(kind), kind[0], number)
            for kind, number in Counter(kinds).items()
            if kind[0] is not None
        ]

    def _blocks_of(self, group: SequenceGroup) -> Iterable[int]:
        return (block for item in group.sequences for table in self._tables[item] for block in table.blocks)

    def _held_lens(self, sequence: Sequence) -> list[int]:
        """Tokens in each layer group for which the sequence has slots, or had before they were freed."""
        return self._begun.get(sequence) or [sequence.num_tokens] * len(self.layer_groups)

    def _release_table(self, table: BlockTable, num_tokens: int) -> None:
        """Release a table, last block first: a later block is never found without those before it."""
        size = self.block_size
        for number, block in reversed(table.numbered()):
            self._release(block, min(max(num_tokens - number * size, 0), size))
        self._num_logical -= len(table.blocks)

    def _extend(self, sequence: Sequence, table: BlockTable, stop: int) -> None:
        """Take blocks up to position `stop`; the caller counts the tokens in them."""
        number = self._num_blocks(stop - table.end)
        if number > 0:
            table.blocks.extend(self.pool.take_all(number))
            self._num_logical += number
            self._note_waste(sequence, table.blocks[-1], table.end)

    # Growth

    def room(self, sequence: Sequence) -> int:
        """`append` is also due for the token with which a block slides out of a window."""
        tables, length = self._tables[sequence], sequence.num_tokens
        if self.pool.num_owners(tables[0].blocks[-1]) > 1:
            return 0
        room = tables[0].end - length - self._lookahead(sequence)
        for number, window, _ in self._windows:
            last_use = tables[number].first_position + self.block_size + window - 1
            room = min(room, last_use - length)
        return max(room, 0)

    def append(self, sequence: Sequence) -> list[Copy]:
        length, copies = sequence.num_tokens, []
        self._slide(sequence, length + 1)
        tables = self._tables[sequence]
        if tables[0].end > length and self.pool.num_owners(tables[0].blocks[-1]) > 1:
            copies = [self._copy_on_write(sequence, table.blocks, table.end) for table in tables]
        stop = length + 1
        if self.num_lookahead:  # the newest token of a reply is never stored
            stop = max(min(stop + self._lookahead(sequence), sequence.group.final_len - 1), stop)
        for table in tables:
            self._extend(sequence, table, stop)
        return copies

    def _slide(self, sequence: Sequence, length: int) -> None:
        """Free the blocks that neither the newest of `length` tokens nor any later one sees."""
        size, tables = self.block_size, self._tables[sequence]
        for number, layers in enumerate(self.layer_groups):
            if layers.window is None:
                continue
            table = tables[number]
            sinks, first = table.num_sink_blocks, (length - layers.window) // size * size
            num_gone = (first - table.first_position) // size
            if num_gone <= 0:
                continue
            for block in table.blocks[sinks : sinks + num_gone][::-1]:
                self._release(block, size)
            self._num_logical -= num_gone
            kept = table.blocks[:sinks] + table.blocks[sinks + num_gone :]
            tables[number] = BlockTable(kept, size, first, sinks)

    def advance(self, num_sequences: int) -> None:
        self._num_tokens += num_sequences * len(self.layer_groups)

    def fork(self, parent: Sequence, child: Sequence) -> list[Copy]:
        new, old = self._tables[parent], self._tables.get(child, [])
        for table in new:
            for block in table.blocks:
                self._share(block)
            self._num_logical += len(table.blocks)
        for table in old:
            self._release_table(table, child.num_tokens)
        self._tables[child] = [
            BlockTable(list(table.blocks), self.block_size, table.first_position, table.num_sink_blocks)
            for table in new
        ]
        return []

    def free(self, sequence: Sequence) -> None:
        lens = self._held_lens(sequence)
        for table, num_tokens in zip(self._tables.pop(sequence), lens, strict=True):
            self._release_table(table, num_tokens)
        self._begun.pop(sequence, None)
        self.index.drop_keys(sequence.group)

    def placement(self, sequence: Sequence, layer_group: int = 0) -> BlockTable:
        return self._tables[sequence][layer_group]

    # Usage

    def _num_dead(self) -> int:
        """Without shared blocks, groups with the same window have the same number of dead slots."""
        if self.index.pinned or self._num_logical > self.pool.num_used:
            tables = ((self._tables[sequence], self._held_lens(sequence)) for sequence in self._tables)
            return num_dead_shared(self.layer_groups, tables, self.pool.num_owners)
        return sum(
            number
            * num_dead(
                tables[i],
                self.layer_groups[i],
                self._begun[sequence][i] if sequence in self._begun else sequence.num_tokens,
            )
            for i, _, number in self._windows
            for sequence, tables in self._tables.items()
        )

    def _tables_of_all(self) -> Iterator[tuple[Sequence, int, list[tuple[int, int]]]]:
        for sequence, tables in self._tables.items():
            for table, held in zip(tables, self._held_lens(sequence), strict=True):
                yield sequence, held, list(table.numbered())

    def check_integrity(self) -> None:
        super().check_integrity()
        for sequence, tables in self._tables.items():
            for table, layers, held in zip(
                tables, self.layer_groups, self._held_lens(sequence), strict=True
            ):
                first_seen = layers.kept(held + 1)[1].start
                assert not table.num_gone or table.first_position <= first_seen, "a window has a gap"
