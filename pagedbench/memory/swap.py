"""HostTables: the blocks of swapped-out sequences, in the host pool or still pinned on the device."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pagedbench.memory.block_pool import BlockPool

if TYPE_CHECKING:
    from pagedbench.request import Sequence


class SwappedBlock(NamedTuple):
    """A block of a swapped-out sequence: on the host or, if it is pinned, still on the device."""

    number: int
    is_pinned: bool


class HostTables:
    """Block tables over the host pool, with the reference counts that the device blocks had."""

    def __init__(self, num_blocks: int) -> None:
        self.pool = BlockPool(num_blocks)
        self._tables: dict[Sequence, list[SwappedBlock]] = {}

    def add(
        self, sequence: Sequence, table: list[int], moved: dict[int, int], pinned: set[int]
    ) -> list[int]:
        """Add the table of a sequence; `moved` maps device blocks to host blocks, and gets new entries.

        Returns the device blocks that have to be moved, each to the host block in `moved`.
        """
        entries, new = [], []
        for block in table:
            if block in pinned:
                entries.append(SwappedBlock(block, is_pinned=True))
                continue
            if block in moved:
                self.pool.share(moved[block])
            else:
                moved[block] = self.pool.take()
                new.append(block)
            entries.append(SwappedBlock(moved[block], is_pinned=False))
        self._tables[sequence] = entries
        return new

    def entries(self, sequence: Sequence) -> list[SwappedBlock]:
        return self._tables[sequence]

    def remove(self, sequence: Sequence) -> None:
        """The sequence is back on the device."""
        for entry in self._tables.pop(sequence):
            if not entry.is_pinned:
                self.pool.release(entry.number)

    def check_integrity(self) -> None:
        entries = (entry for table in self._tables.values() for entry in table)
        self.pool.check_integrity(Counter(entry.number for entry in entries if not entry.is_pinned))
