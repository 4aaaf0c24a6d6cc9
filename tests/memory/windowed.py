"""Windowed: a memory manager of two layer groups, which frees the blocks before each group's window."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.block_pool import BlockPool
from pagedbench.memory.layer_group import LayerGroup
from pagedbench.memory.manager import Allocation, KVManager
from pagedbench.memory.moves import Copy
from pagedbench.memory.placement import BlockTable
from pagedbench.memory.usage import MemoryUsage

if TYPE_CHECKING:
    from pagedbench.request import Sequence, SequenceGroup


class Windowed(KVManager):
    """Blocks on demand, each of one sequence and one layer group; nothing is shared."""

    attention: ClassVar[str] = "paged"
    layer_groups = (LayerGroup((0, 2), window=12, sinks=5), LayerGroup((1, 3), window=4))

    def __init__(self, num_slots: int, block_size: int, max_model_len: int) -> None:
        self.block_size = block_size
        self.max_model_len = max_model_len
        self.pool = BlockPool(num_slots // block_size)
        self.num_slots = self.pool.num_blocks * block_size
        self.tables: dict[Sequence, list[BlockTable]] = {}

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def can_allocate(self, group: SequenceGroup) -> Allocation:
        """A prompt, or what is recomputed, is stored whole before its window moves."""
        num_tables = group.num_sequences * len(self.layer_groups)
        most = num_tables * self._num_blocks(group.worst_case_len)
        if group.max_len > self.max_model_len or most > self.pool.num_blocks:
            return Allocation.NEVER
        needed = num_tables * self._num_blocks(group.sequences[0].num_tokens)
        return Allocation.OK if needed <= self.pool.num_free else Allocation.LATER

    def allocate(self, group: SequenceGroup) -> list[int]:
        for sequence in group.sequences:
            self.tables[sequence] = []
            for layers in self.layer_groups:
                blocks = [self.pool.take() for _ in range(self._num_blocks(sequence.num_tokens))]
                num_sink_blocks = self._num_blocks(layers.sinks)
                first_position = num_sink_blocks * self.block_size
                self.tables[sequence].append(
                    BlockTable(blocks, self.block_size, first_position, num_sink_blocks)
                )
        return [0] * group.num_sequences

    def _end(self, table: BlockTable) -> int:
        """The position behind the table's last block."""
        num_freed = table.first_position // self.block_size - table.num_sink_blocks
        return (len(table.blocks) + num_freed) * self.block_size

    def room(self, sequence: Sequence) -> int:
        """`append` is due once a block is full, or no longer in its window."""
        length, rooms = sequence.num_tokens, []
        for table, layers in zip(self.tables[sequence], self.layer_groups, strict=True):
            assert layers.window is not None
            last_use = table.first_position + self.block_size - 1 + layers.window - 1  # of the first block
            rooms += [self._end(table) - length, last_use + 1 - length]
        return max(min(rooms), 0)

    @property
    def num_appendable(self) -> int:
        return self.pool.num_free // len(self.layer_groups)

    def append(self, sequence: Sequence) -> list[Copy]:
        length = sequence.num_tokens
        self.tables[sequence] = [
            self._moved(table, layers.kept(length + 1)[1].start, length)
            for table, layers in zip(self.tables[sequence], self.layer_groups, strict=True)
        ]
        return []

    def _moved(self, table: BlockTable, window_start: int, length: int) -> BlockTable:
        """Without the blocks before the window, and with a slot for position `length`."""
        sinks, first = table.num_sink_blocks, table.first_position
        num_freed = max(window_start - first, 0) // self.block_size
        for block in table.blocks[sinks : sinks + num_freed]:
            self.pool.release(block)
        blocks = table.blocks[:sinks] + table.blocks[sinks + num_freed :]
        if self._end(table) == length:
            blocks.append(self.pool.take())
        return BlockTable(blocks, self.block_size, first + num_freed * self.block_size, sinks)

    def advance(self, num_sequences: int) -> None:
        """The usage is recomputed from the tables."""

    def fork(self, parent: Sequence, child: Sequence) -> list[Copy]:
        size, copies = self.block_size, []
        for source, target in zip(self.tables[parent], self.tables[child], strict=True):
            assert source.first_position == target.first_position
            pairs = zip(source.blocks, target.blocks, strict=True)
            copies += [Copy(block * size, other * size, size) for block, other in pairs]
        return copies

    def free(self, sequence: Sequence) -> None:
        for table in self.tables.pop(sequence):
            for block in table.blocks:
                self.pool.release(block)

    def placement(self, sequence: Sequence, layer_group: int = 0) -> BlockTable:
        return self.tables[sequence][layer_group]

    def usage(self, *, head_refused: bool) -> MemoryUsage:
        taken, kept, reserved = self.pool.num_used * self.block_size, 0, 0
        for sequence, tables in self.tables.items():
            for table, layers in zip(tables, self.layer_groups, strict=True):
                kept += sum(map(len, layers.kept(sequence.num_tokens)))
                reserved += max(min(self._end(table), sequence.group.final_len) - sequence.num_tokens, 0)
        return MemoryUsage(kept, reserved, taken - kept - reserved, 0, 0, self.num_slots - taken)

    def check_integrity(self) -> None:
        blocks = [block for tables in self.tables.values() for table in tables for block in table.blocks]
        owners = {block: blocks.count(block) for block in blocks}
        assert len(owners) == len(blocks), "a block has two owners"
        self.pool.check_integrity(owners)
