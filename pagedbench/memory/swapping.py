"""Swapping groups to a host pool and back (paper, section 4.5): HostSwapping and SwappingManager."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.moves import Copy, Pool
from pagedbench.memory.ref_counted import RefCountedBlocks
from pagedbench.memory.swap import HostTables
from pagedbench.memory.tables import BlockTableManager

if TYPE_CHECKING:
    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.memory.swap import SwappedBlock
    from pagedbench.request import Sequence, SequenceGroup


class HostSwapping(RefCountedBlocks):
    """Blocks on the device and on the host. A swap-in leaves the watermark free."""

    swaps: ClassVar[bool] = True
    has_watermark: ClassVar[bool] = True

    def _open_host(self, host_blocks: int | None, watermark: float) -> None:
        """Make the host pool; `host_blocks` None: as large as the device's."""
        host_blocks = self.pool.num_blocks if host_blocks is None else host_blocks
        self.host = HostTables(host_blocks)
        self.num_host_slots = host_blocks * self.block_size
        self.watermark_blocks = int(watermark * self.pool.num_blocks)

    def can_swap_out(self, group: SequenceGroup) -> bool:
        return len(set(self._blocks_of(group)) - self.index.pinned) <= self.host.pool.num_free

    def _move_out(self, sequence: Sequence, blocks: list[int], moved: dict[int, int]) -> list[Copy]:
        """Note a sequence's blocks on the host; `moved` maps blocks of the device to those of the host."""
        size = self.block_size
        new = self.host.add(sequence, blocks, moved, self.index.pinned)
        return [Copy(block * size, moved[block] * size, size, Pool.DEVICE, Pool.HOST) for block in new]

    def can_swap_in(self, group: SequenceGroup) -> bool:
        entries = {entry for sequence in group.sequences for entry in self.host.entries(sequence)}
        needed = sum(not entry.is_pinned for entry in entries)
        if not self._num_logical:  # no sequence has a block
            return needed <= self.pool.num_free
        num_grown = group.num_sequences * self._blocks_per_append
        return self.pool.num_free - needed - num_grown >= self.watermark_blocks

    def _move_in(
        self,
        sequence: Sequence,
        number: int,
        entry: SwappedBlock,
        moved: dict[int, int],
        moves: list[Copy],
    ) -> int:
        """The device's block for a block of the host. A shared block comes back once, and is shared again.

        Args:
            number: of the block in the sequence.
            moved: maps blocks of the host to those of the device.
            moves: gets the move, if there is one.
        """
        size = self.block_size
        if entry.is_pinned or entry.number in moved:
            block = entry.number if entry.is_pinned else moved[entry.number]
            self._share(block)
            return block
        block = moved[entry.number] = self.pool.take()
        moves.append(Copy(entry.number * size, block * size, size, Pool.HOST, Pool.DEVICE))
        self._num_tokens += max(min(sequence.num_tokens - number * size, size), 0)
        self._note_waste(sequence, block, (number + 1) * size)
        return block

    def check_integrity(self) -> None:
        super().check_integrity()
        self.host.check_integrity()


class SwappingManager(BlockTableManager, HostSwapping):
    """Keeps one block table per sequence, on the device or on the host."""

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
        self._open_host(host_blocks, watermark)

    def free(self, sequence: Sequence) -> None:
        if sequence in self._tables:
            super().free(sequence)
        else:
            self.host.remove(sequence)

    def swap_out(self, group: SequenceGroup) -> list[Copy]:
        moved: dict[int, int] = {}
        moves = []
        for sequence in group.sequences:
            moves += self._move_out(sequence, self._tables[sequence], moved)
        for sequence in group.sequences:
            self.free(sequence)
        return moves

    def swap_in(self, group: SequenceGroup) -> list[Copy]:
        moved: dict[int, int] = {}
        moves: list[Copy] = []
        for sequence in group.sequences:
            entries = enumerate(self.host.entries(sequence))
            table = [self._move_in(sequence, i, entry, moved, moves) for i, entry in entries]
            self._tables[sequence] = table
            self._num_logical += len(table)
            self.host.remove(sequence)
        return moves
