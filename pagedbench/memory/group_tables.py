"""GroupTables: a block table for each sequence and layer group, over one pool of blocks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.block_pool import BlockPool
from pagedbench.memory.dead_slots import num_dead, num_dead_shared
from pagedbench.memory.eviction import CachedBlock
from pagedbench.memory.grouped_index import GroupedIndex
from pagedbench.memory.manager import KVManager
from pagedbench.memory.moves import Copy
from pagedbench.memory.placement import BlockTable
from pagedbench.memory.usage import MemoryUsage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.memory.cache_observer import CacheObserver
    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.request import Sequence, SequenceGroup


class GroupTables(KVManager):
    """Gives a sequence a block in each layer group when the last ones are full; frees those that slid out.

    ::

        block size 4, 21 tokens
        all layers    [ 7,       2,       5,        9,         0,         4  ]
        window 6                                  [ 3,         8,         1  ]
        positions    0 .. 3   4 .. 7   8 .. 11   12 .. 15   16 .. 19   20 .. 23

    With the token at position 21 the window begins at 16, and block 3 is free.

    Groups have equal numbers of layers, so any free block serves any of them. The tables of a sequence end
    at the same position; those of groups with the same window also begin at the same one. Sharing and
    copy-on-write are those of `BlockTableManager`.
    """

    attention: ClassVar[str] = "paged"

    def __init__(self, pool: PoolSpec) -> None:
        self.layer_groups = pool.layer_groups
        self.block_size = pool.block_size
        self.index = GroupedIndex(pool.block_size, pool.layer_groups)
        self.pool = BlockPool(pool.num_slots // pool.block_size, self._evicted, pool.eviction)
        self.num_slots = self.pool.num_blocks * pool.block_size
        self._tables: dict[Sequence, list[BlockTable]] = {}
        self._begun: dict[
            Sequence, list[int]
        ] = {}  # tokens with slots, by layer group, if not all have one
        self._num_tokens = 0  # distinct slots that hold a token, those before a window included
        self._num_logical = 0  # blocks of all tables; a shared one counts once a table
        self._num_idle_pins = 0  # pinned blocks that no table holds
        self._waste: dict[int, int] = {}  # last blocks -> slots that their owner will never fill
        self._num_waste = 0
        kinds = [(group.window, group.sinks) for group in self.layer_groups]
        self._windows = [  # the first group of each, its window, and how many groups have the same one
            (kinds.index(kind), kind[0], number)
            for kind, number in Counter(kinds).items()
            if kind[0] is not None
        ]

    def observe_cache(self, observer: CacheObserver) -> None:
        self.index.observer = observer
        observer.kept([CachedBlock(block) for block in sorted(self.index.pinned)])

    def _evicted(self, blocks: list[int]) -> None:
        """These idle blocks lose their content."""
        self.index.forget(blocks)

    def _blocks_of(self, group: SequenceGroup) -> Iterable[int]:
        return (block for item in group.sequences for table in self._tables[item] for block in table.blocks)

    def num_reclaimable(self, group: SequenceGroup) -> int:
        owners = self.pool.num_owners
        held = Counter(self._blocks_of(group))
        return self.block_size * sum(owners(block) == number for block, number in held.items())

    def num_held_slots(self, group: SequenceGroup) -> int:
        return self.block_size * len(set(self._blocks_of(group)))

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _held_lens(self, sequence: Sequence) -> list[int]:
        """Tokens that the sequence has slots for, in each layer group, or had before they slid out."""
        return self._begun.get(sequence) or [sequence.num_tokens] * len(self.layer_groups)

    # Owners of blocks

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

    def _release_table(self, table: BlockTable, num_tokens: int) -> None:
        """Let go of a table. The last blocks come first: a prefix without its beginning is never found."""
        size = self.block_size
        for number, block in reversed(table.numbered()):
            self._release(block, min(max(num_tokens - number * size, 0), size))
        self._num_logical -= len(table.blocks)

    def _note_waste(self, sequence: Sequence, table: BlockTable) -> None:
        """Count the slots of the newest block that the sequence will never fill."""
        waste = table.end - sequence.group.final_len
        if waste > 0:
            self._waste[table.blocks[-1]] = waste
            self._num_waste += waste

    def _extend(self, sequence: Sequence, table: BlockTable, stop: int) -> None:
        """Take blocks up to position `stop`; that they hold tokens is for the caller to count."""
        number = self._num_blocks(stop - table.end)
        if number > 0:
            table.blocks.extend(self.pool.take_all(number))
            self._num_logical += number
            self._note_waste(sequence, table)

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

    def _lookahead(self, sequence: Sequence) -> int:
        """Beams get one token a step, all others up to `num_lookahead` more."""
        return self.num_lookahead if sequence.group.request.sampling.beam_width is None else 0

    @property
    def _blocks_per_append(self) -> int:
        """The most blocks that one call of `append` takes in a layer group."""
        return 1 + -(-self.num_lookahead // self.block_size)

    @property
    def num_appendable(self) -> int:
        return self.pool.num_free // (self._blocks_per_append * len(self.layer_groups))

    def append(self, sequence: Sequence) -> list[Copy]:
        length, copies = sequence.num_tokens, []
        self._slide(sequence, length + 1)
        tables = self._tables[sequence]
        if tables[0].end > length and self.pool.num_owners(tables[0].blocks[-1]) > 1:
            copies = [self._copy_on_write(sequence, table) for table in tables]
        stop = length + 1
        if self.num_lookahead:  # the newest token of a reply is never stored
            stop = max(min(stop + self._lookahead(sequence), sequence.group.final_len - 1), stop)
        for table in tables:
            self._extend(sequence, table, stop)
        return copies

    def _copy_on_write(self, sequence: Sequence, table: BlockTable) -> Copy:
        """Replace the last block, which others share, by a copy to write into."""
        shared, size = table.blocks[-1], self.block_size
        self.pool.release(shared)
        table.blocks[-1] = self.pool.take()
        num_copied = sequence.num_tokens % size
        self._num_tokens += num_copied
        self._note_waste(sequence, table)
        return Copy(shared * size, table.blocks[-1] * size, num_copied)

    def _slide(self, sequence: Sequence, length: int) -> None:
        """Free what the newest of `length` tokens, and those after it, do not see."""
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

    @property
    def num_owned(self) -> int:
        return (self.pool.num_used - self._num_idle_pins) * self.block_size

    def usage(self, *, head_refused: bool) -> MemoryUsage:
        """Slots that hold a token which no query sees any more are internal."""
        taken = self.pool.num_used * self.block_size
        dead = self._num_dead() if self._windows else 0
        return MemoryUsage(
            token_states=self._num_tokens - dead,
            reserved=taken - self._num_tokens - self._num_waste,
            internal=self._num_waste + dead,
            rounding=0,
            unusable=0,  # any request can use any free block
            free=self.num_slots - taken,
            shared=self._num_logical * self.block_size - self.num_owned,
        )

    def _num_dead(self) -> int:
        """Without shared blocks, groups with the same window have equally many."""
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

    def check_integrity(self) -> None:
        size = self.block_size
        owners = dict.fromkeys(self.index.pinned, 1)
        filled = dict.fromkeys(self.index.pinned, size)  # block -> tokens in it
        waste: dict[int, int] = {}
        for sequence, tables in self._tables.items():
            for table, layers, held in zip(
                tables, self.layer_groups, self._held_lens(sequence), strict=True
            ):
                num_more = table.end // size - self._num_blocks(held)
                assert 0 <= num_more < self._blocks_per_append, f"{sequence} has {len(table.blocks)} blocks"
                first_seen = layers.kept(held + 1)[1].start
                assert table.num_gone * size == 0 or table.first_position <= first_seen, (
                    "a window has a gap"
                )
                for number, block in table.numbered():
                    owners[block] = owners.get(block, 0) + 1
                    filled[block] = max(filled.get(block, 0), min(held - number * size, size))
                    unused = min((number + 1) * size - sequence.group.final_len, size)
                    if unused > 0:
                        waste[block] = unused
        self.pool.check_integrity(owners)
        self.index.check_integrity()
        logical = sum(len(table.blocks) for tables in self._tables.values() for table in tables)
        idle_pins = sum(owners[block] == 1 for block in self.index.pinned)
        assert self._num_idle_pins == idle_pins, "pinned blocks without a user do not match"
        assert self._num_tokens == sum(filled.values()), "tokens do not match the tables"
        assert self._num_logical == logical, "logical blocks do not match"
        assert self._waste == waste, "slack behind the last tokens does not match"
        assert self._num_waste == sum(waste.values()), "the sum of the slack does not match"
