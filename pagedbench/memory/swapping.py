"""SwappingManager: groups move to a host pool and back (paper, section 4.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.moves import Copy, Pool
from pagedbench.memory.swap import HostTables
from pagedbench.memory.tables import BlockTableManager

if TYPE_CHECKING:
    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.request import Sequence, SequenceGroup


class SwappingManager(BlockTableManager):
    """Block tables on the device and on the host. What comes back leaves the watermark free."""

    swaps: ClassVar[bool] = True
    has_watermark: ClassVar[bool] = True

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        host_blocks: int | None,
        watermark: float,
        eviction: EvictionPolicy | None,
    ) -> None:
        """`host_blocks`: as many as on the device if None; for the rest see `Paged`."""
        super().__init__(num_blocks, block_size, eviction)
        host_blocks = num_blocks if host_blocks is None else host_blocks
        self.host = HostTables(host_blocks)
        self.num_host_slots = host_blocks * block_size
        self.watermark_blocks = int(watermark * num_blocks)

    def free(self, sequence: Sequence) -> None:
        if sequence in self._tables:
            super().free(sequence)
        else:
            self.host.remove(sequence)

    def can_swap_out(self, group: SequenceGroup) -> bool:
        blocks = {block for sequence in group.sequences for block in self._tables[sequence]}
        return len(blocks - self.index.pinned) <= self.host.pool.num_free

    def swap_out(self, group: SequenceGroup) -> list[Copy]:
        size = self.block_size
        moved: dict[int, int] = {}
        moves = []
        for sequence in group.sequences:
            for block in self.host.add(sequence, self._tables[sequence], moved, self.index.pinned):
                moves.append(Copy(block * size, moved[block] * size, size, Pool.DEVICE, Pool.HOST))
        for sequence in group.sequences:
            self.free(sequence)
        return moves

    def can_swap_in(self, group: SequenceGroup) -> bool:
        entries = {entry for sequence in group.sequences for entry in self.host.entries(sequence)}
        needed = sum(not entry.is_pinned for entry in entries)
        if not self._tables:
            return needed <= self.pool.num_free
        num_grown = group.num_sequences * self._blocks_per_append
        return self.pool.num_free - needed - num_grown >= self.watermark_blocks

    def swap_in(self, group: SequenceGroup) -> list[Copy]:
        """Each shared block comes back once, and is shared again."""
        size = self.block_size
        moved: dict[int, int] = {}
        moves = []
        for sequence in group.sequences:
            table: list[int] = []
            for i, (number, is_pinned) in enumerate(self.host.entries(sequence)):
                if is_pinned or number in moved:
                    table.append(number if is_pinned else moved[number])
                    self._share(table[-1])
                    continue
                table.append(self.pool.take())
                moved[number] = table[-1]
                moves.append(Copy(number * size, table[-1] * size, size, Pool.HOST, Pool.DEVICE))
                self._num_tokens += max(min(sequence.num_tokens - i * size, size), 0)
                self._note_waste(sequence, table)
            self._tables[sequence] = table
            self._num_logical += len(table)
            self.host.remove(sequence)
        return moves

    def check_integrity(self) -> None:
        super().check_integrity()
        self.host.check_integrity()
