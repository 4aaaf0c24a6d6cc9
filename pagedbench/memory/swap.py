"""HostTables: the blocks of swapped-out sequences, in the host pool or still pinned on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.memory.block_pool import BlockPool

if TYPE_CHECKING:
    from pagedbench.request import Sequence


class HostTables:
    """Block tables over the host pool, with the reference counts that the device blocks had.

    An entry is a host block, or ~b for device block b, which is pinned and was not moved.
    """

    def __init__(self, num_blocks: int) -> None:
        self.pool = BlockPool(num_blocks)
        self._tables: dict[Sequence, list[int]] = {}

    def add(
        self, sequence: Sequence, table: list[int], moved: dict[int, int], pinned: set[int]
    ) -> list[int]:
        """Add the table of a sequence; `moved` maps device blocks to host blocks, and gets new entries.

        Returns the device blocks that have to be moved, each to the host block in `moved`.
        """
        entries, new = [], []
        for block in table:
            if block in pinned:
                entries.append(~block)
                continue
            if block in moved:
                self.pool.share(moved[block])
            else:
                moved[block] = self.pool.take()
                new.append(block)
            entries.append(moved[block])
        self._tables[sequence] = entries
        return new

    def entries(self, sequence: Sequence) -> list[int]:
        return self._tables[sequence]

    def remove(self, sequence: Sequence) -> None:
        """The sequence is back on the device."""
        for entry in self._tables.pop(sequence):
            if entry >= 0:
                self.pool.release(entry)

    def check_integrity(self) -> None:
        owners: dict[int, int] = {}
        for entries in self._tables.values():
            for entry in entries:
                owners[entry] = owners.get(entry, 0) + (entry >= 0)
        self.pool.check_integrity(owners)
