"""SwappingGroups: the tables of all layer groups move to a host pool and back together."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.group_tables import GroupTables
from pagedbench.memory.moves import Copy, Pool
from pagedbench.memory.placement import BlockTable
from pagedbench.memory.swap import HostTables

if TYPE_CHECKING:
    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.request import Sequence, SequenceGroup


class SwappingGroups(GroupTables):
    """As `SwappingManager`; on the host a sequence has the blocks of one layer group after another."""

    swaps: ClassVar[bool] = True
    has_watermark: ClassVar[bool] = True

    def __init__(self, pool: PoolSpec) -> None:
        super().__init__(pool)
        num_host = self.pool.num_blocks if pool.host_slots is None else pool.host_slots // pool.block_size
        self.host = HostTables(num_host)
        self.num_host_slots = num_host * pool.block_size
        self.watermark_blocks = int(pool.watermark * self.pool.num_blocks)
        self._swapped: dict[Sequence, list[BlockTable]] = {}  # as they were; the blocks are others' now

    def free(self, sequence: Sequence) -> None:
        if sequence in self._tables:
            super().free(sequence)
        else:
            self.host.remove(sequence)
            del self._swapped[sequence]

    def can_swap_out(self, group: SequenceGroup) -> bool:
        return len(set(self._blocks_of(group)) - self.index.pinned) <= self.host.pool.num_free

    def swap_out(self, group: SequenceGroup) -> list[Copy]:
        """What the next token does not see stays behind: a block that comes back is not freed at once."""
        size = self.block_size
        moved: dict[int, int] = {}
        moves = []
        for sequence in group.sequences:
            self._slide(sequence, sequence.num_tokens + 1)
            tables = self._tables[sequence]
            blocks = [block for table in tables for block in table.blocks]
            for block in self.host.add(sequence, blocks, moved, self.index.pinned):
                moves.append(Copy(block * size, moved[block] * size, size, Pool.DEVICE, Pool.HOST))
        for sequence in group.sequences:
            self._swapped[sequence] = self._tables[sequence]
            self.free(sequence)
        return moves

    def can_swap_in(self, group: SequenceGroup) -> bool:
        entries = {entry for sequence in group.sequences for entry in self.host.entries(sequence)}
        needed = sum(not entry.is_pinned for entry in entries)
        if not self._tables:
            return needed <= self.pool.num_free
        num_grown = group.num_sequences * self._blocks_per_append * len(self.layer_groups)
        return self.pool.num_free - needed - num_grown >= self.watermark_blocks

    def swap_in(self, group: SequenceGroup) -> list[Copy]:
        """Each shared block comes back once, and is shared again."""
        size = self.block_size
        moved: dict[int, int] = {}
        moves = []
        for sequence in group.sequences:
            entries = iter(self.host.entries(sequence))
            self._tables[sequence] = []
            for old in self._swapped.pop(sequence):
                table = BlockTable([], size, old.first_position, old.num_sink_blocks)
                for number, _ in old.numbered():
                    host, is_pinned = next(entries)
                    if is_pinned or host in moved:
                        table.blocks.append(host if is_pinned else moved[host])
                        self._share(table.blocks[-1])
                        continue
                    table.blocks.append(self.pool.take())
                    moved[host] = table.blocks[-1]
                    moves.append(Copy(host * size, table.blocks[-1] * size, size, Pool.HOST, Pool.DEVICE))
                    self._num_tokens += max(min(sequence.num_tokens - number * size, size), 0)
                    self._note_waste(sequence, table)
                self._tables[sequence].append(table)
                self._num_logical += len(table.blocks)
            self.host.remove(sequence)
        return moves

    def check_integrity(self) -> None:
        super().check_integrity()
        self.host.check_integrity()
