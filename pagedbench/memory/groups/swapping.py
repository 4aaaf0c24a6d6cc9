"""SwappingGroups: the tables of all layer groups move to a host pool and back together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.memory.groups.tables import GroupTables
from pagedbench.memory.placement import BlockTable
from pagedbench.memory.swapping import HostSwapping

if TYPE_CHECKING:
    from pagedbench.memory.moves import Copy
    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.request import Sequence, SequenceGroup


class SwappingGroups(GroupTables, HostSwapping):
    """As `SwappingManager`; on the host a sequence has the blocks of one layer group after another."""

    def __init__(self, pool: PoolSpec) -> None:
        super().__init__(pool)
        host_blocks = None if pool.host_slots is None else pool.host_slots // pool.block_size
        self._open_host(host_blocks, pool.watermark)
        self._swapped: dict[Sequence, list[BlockTable]] = {}  # as they were; their blocks are free since

    def free(self, sequence: Sequence) -> None:
        if sequence in self._tables:
            super().free(sequence)
        else:
            self.host.remove(sequence)
            del self._swapped[sequence]

    def swap_out(self, group: SequenceGroup) -> list[Copy]:
        """Move the blocks that the next token sees; the others would be freed as soon as they came back."""
        moved: dict[int, int] = {}
        moves = []
        for sequence in group.sequences:
            self._slide(sequence, sequence.num_tokens + 1)
            blocks = [block for table in self._tables[sequence] for block in table.blocks]
            moves += self._move_out(sequence, blocks, moved)
        for sequence in group.sequences:
            self._swapped[sequence] = self._tables[sequence]
            self.free(sequence)
        return moves

    def swap_in(self, group: SequenceGroup) -> list[Copy]:
        moved: dict[int, int] = {}
        moves: list[Copy] = []
        for sequence in group.sequences:
            entries = iter(self.host.entries(sequence))
            self._tables[sequence] = []
            for old in self._swapped.pop(sequence):
                blocks = [
                    self._move_in(sequence, number, next(entries), moved, moves)
                    for number, _ in old.numbered()
                ]
                table = BlockTable(blocks, self.block_size, old.first_position, old.num_sink_blocks)
                self._tables[sequence].append(table)
                self._num_logical += len(blocks)
            self.host.remove(sequence)
        return moves
