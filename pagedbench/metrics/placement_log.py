"""Which part of the KV pool a sequence has, and how changes of it become entries of the event log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pagedbench.memory.moves import Pool
from pagedbench.memory.placement import BlockTable, Extent
from pagedbench.metrics.event_log import NONE, TIERS, Event, EventLog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagedbench.memory.moves import Copy
    from pagedbench.memory.placement import Placement
    from pagedbench.request import Sequence

DEVICE, HOST = TIERS.index(Pool.DEVICE), TIERS.index(Pool.HOST)


@dataclass(slots=True)
class Seen:
    """What the log knows of a sequence's placement in one layer group."""

    placement: Placement
    blocks: list[int]  # the list of the table, which grows; empty for an extent
    num_blocks: int
    last: int  # block, `NONE` without any
    num_gone: int  # blocks before a window, which have left the list


class HostBlocks(NamedTuple):
    """Blocks of a swapped-out sequence, and the number of the first: pinned ones stay on the device."""

    first: int
    blocks: list[int]


def seen_now(placement: Placement) -> Seen:
    """A placement of which everything is noted."""
    blocks = placement.blocks if isinstance(placement, BlockTable) else []
    num_gone = placement.num_gone if isinstance(placement, BlockTable) else 0
    return Seen(placement, blocks, len(blocks), blocks[-1] if blocks else NONE, num_gone)


class PlacementLog:
    """Writes what sequences get and lose into an event log."""

    def __init__(self, log: EventLog) -> None:
        self.log = log

    def note(
        self,
        event: Event,
        tier: int,
        blocks: list[int] | tuple[int, ...],
        sequence: Sequence | None,
        first: int = 0,
        length: int = NONE,
    ) -> None:
        """Add an entry; arguments as for `EventLog.add`."""
        request_id, number = NONE, NONE
        if sequence is not None:
            request_id, number = sequence.group.request.request_id, sequence.sequence_id
        self.log.add(event, tier, blocks, request_id, number, first, length)

    def gain(self, placement: Placement, start: int, sequence: Sequence, length: int) -> None:
        """The sequence has got the extent, or the blocks from number `start` of the table on."""
        if isinstance(placement, Extent):
            self.note(Event.ALLOCATE, DEVICE, (placement.start,), sequence, 0, placement.size)
            return
        for first, blocks in _runs(placement, start):
            self.note(Event.ALLOCATE, DEVICE, blocks, sequence, first, length)

    def hit(self, table: BlockTable, start: int, sequence: Sequence, length: int) -> int:
        """Note the blocks before position `start` as found in the cache. Returns their number."""
        sinks, size = table.num_sink_blocks, table.block_size
        late = table.blocks[sinks : max(start // size - table.num_gone, sinks)]
        early = table.blocks[: min(start // size, sinks)]
        for first, blocks in ((0, early), (sinks + table.num_gone, late)):
            if blocks:
                self.note(Event.HIT, DEVICE, blocks, sequence, first, length)
        return len(early) + len(late)

    def slide(self, seen: Seen, table: Placement, sequence: Sequence) -> Seen:
        """Note the blocks that have slid out of a window, but not yet those that were added since."""
        if isinstance(table, Extent) or table.num_gone == seen.num_gone:
            return seen
        sinks, num_slid = table.num_sink_blocks, table.num_gone - seen.num_gone
        blocks, first = seen.blocks[sinks : sinks + num_slid], sinks + seen.num_gone
        self.note(Event.FREE, DEVICE, blocks, sequence, first, sequence.num_tokens)
        return Seen(table, table.blocks, seen.num_blocks - num_slid, seen.last, table.num_gone)

    def lose(self, placement: Placement, sequence: Sequence) -> None:
        """Note that the sequence gives up what it has on the device."""
        length = sequence.num_tokens
        if isinstance(placement, Extent):
            self.note(Event.FREE, DEVICE, (placement.start,), sequence, 0, length)
            return
        for first, blocks in _runs(placement, 0):
            self.note(Event.FREE, DEVICE, blocks, sequence, first, length)

    def compare(
        self, sequence: Sequence, old: BlockTable, new: BlockTable, old_length: int, length: int
    ) -> None:
        """Note that the table was replaced by another, which may begin with the same blocks."""
        before, after = set(old.blocks), set(new.blocks)
        for first, blocks in _runs(new, 0):
            for number, block in enumerate(blocks, first):
                if block not in before:
                    self.note(Event.ALLOCATE, DEVICE, (block,), sequence, number, length)
        for first, blocks in _runs(old, 0):
            for number, block in enumerate(blocks, first):
                if block not in after:
                    self.note(Event.FREE, DEVICE, (block,), sequence, number, old_length)

    def moves(self, copies: list[Copy]) -> Iterator[tuple[int, int]]:
        """The blocks that copies between pools move, and their destinations."""
        size = self.log.block_size or 1
        for copy in copies:
            for offset in range(0, copy.num_slots, size):
                yield (copy.source + offset) // size, (copy.destination + offset) // size


def _runs(table: BlockTable, start: int) -> Iterator[tuple[int, list[int]]]:
    """The blocks from number `start` of the list on, with their numbers in the sequence."""
    sinks = table.num_sink_blocks
    num_gone = table.num_gone
    if not num_gone:
        yield start, table.blocks[start:]
        return
    yield start, table.blocks[start:sinks]
    yield max(start, sinks) + num_gone, table.blocks[max(start, sinks) :]
