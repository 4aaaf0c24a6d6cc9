"""Tiers: evicted blocks of prefixes go to the host, from there to a disk, and come back on a hit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pagedbench.memory.disk import NoDisk
from pagedbench.memory.moves import Copy, Pool
from pagedbench.memory.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.disk import Disk
    from pagedbench.memory.prefix import Key
    from pagedbench.request import SequenceGroup


@dataclass(slots=True)
class TierCounts:
    """What the tiers did in a run, in tokens: hits by tier, and moves by direction."""

    host_hits: int = 0
    disk_hits: int = 0
    device_to_host: int = 0
    host_to_device: int = 0
    host_to_disk: int = 0
    device_to_disk: int = 0
    disk_to_host: int = 0
    dropped: int = 0  # evicted from the last tier, or lost because the next one was busy


class Fetch(NamedTuple):
    """A read from the disk: for which group, and into which block of the host each content goes."""

    group: SequenceGroup
    blocks: dict[Key, int]


class Tiers:
    """Two tiers below the device, each least recently used first. No tensors, no clock.

    ::

        device ──evicted──► host ──no room──► disk
           ▲                 │ ▲                │
           └──── on a hit ───┘ └─ for the head of the queue, which waits

    A block that comes back also stays where it was: when the device evicts it again, nothing has to be
    moved. Nor is a block that is already on the disk written again.

    Moves between device and host belong to a batch. In one iteration, all moves that read the device are
    executed before any that writes it, whatever the order in which they were decided; so a block of the
    host that one of them reads or writes is not reused in the same iteration (`Tier.touch`). The disk
    starts at once: content that is written to it was there before the iteration, and blocks of the host
    that are read into have no owner until the read has ended.
    """

    def __init__(self, block_size: int, host_blocks: int, disk_blocks: int, landing_blocks: int) -> None:
        """`landing_blocks`: blocks on the host for reads from the disk if there is no host tier."""
        self.block_size = block_size
        self.counts = TierCounts()
        self.disk: Disk = NoDisk()
        self.num_host_slots = (host_blocks or (landing_blocks if disk_blocks else 0)) * block_size
        self.num_disk_slots = disk_blocks * block_size
        self._keeps_on_host = host_blocks > 0
        self._host = Tier(self.num_host_slots // block_size)
        self._disk = Tier(disk_blocks)
        self._evictions: list[Copy] = []
        self._promotions: list[Copy] = []
        self._writes: list[Copy] = []
        self._fetch: Fetch | None = None
        self._served: SequenceGroup | None = None  # the latest whose read has ended
        self._fetched: set[Key] = set()  # on the host, read from the disk, and not yet used

    # Down

    def store(self, key: Key, block: int) -> None:
        """Store a content that the device's block is losing; it was computed before this iteration."""
        if key in self._host:
            self._host.need(key)
            return
        place = self._host_block() if self._keeps_on_host else None
        if place is None:
            self._to_disk(key, Pool.DEVICE, block)
            return
        self._host.put(key, place)
        self._host.touch(key)
        self._evictions.append(self._copy(block, place, Pool.DEVICE, Pool.HOST_CACHE))
        self.counts.device_to_host += self.block_size

    def _host_block(self) -> int | None:
        """A block of the host to be filled; its previous content goes to the disk."""
        taken = self._host.take()
        if taken is None:
            return None
        block, lost = taken
        if lost is not None:
            self._fetched.discard(lost)
            self._to_disk(lost, Pool.HOST_CACHE, block)
        return block

    def _to_disk(self, key: Key, pool: Pool, block: int) -> None:
        if key in self._disk:
            self._disk.need(key)
            return
        num_waiting = (len(self._writes) + 1) * self.block_size
        taken = self._disk.take() if num_waiting <= self.disk.room else None
        if taken is None:
            self.counts.dropped += self.block_size
            return
        self._disk.put(key, taken[0])
        self._disk.touch(key)
        self._writes.append(self._copy(block, taken[0], pool, Pool.DISK))
        if pool is Pool.DEVICE:
            self._evictions.append(self._writes[-1])
            self.counts.device_to_disk += self.block_size
        else:
            self.counts.host_to_disk += self.block_size

    # Up

    def is_on_host(self, key: Key) -> bool:
        """Is this content on the host?"""
        return key in self._host

    def holds(self, key: Key) -> bool:
        """Is this content in any tier?"""
        return key in self._host or key in self._disk

    def find(self, keys: Items[Key]) -> int:
        """How many of these contents, from the first on, are on the host."""
        return next((i for i, key in enumerate(keys) if key not in self._host), len(keys))

    def claim(self, keys: Items[Key]) -> list[int]:
        """The host's blocks with these contents, which stay until the moves of this iteration are made."""
        blocks = [self._host.touch(key) for key in keys]
        num_fetched = len(self._fetched.intersection(keys))
        self._fetched.difference_update(keys)
        self.counts.disk_hits += num_fetched * self.block_size
        self.counts.host_hits += (len(keys) - num_fetched) * self.block_size
        return blocks

    def promote(self, host_blocks: Items[int], device_blocks: Items[int]) -> None:
        """Bring claimed blocks to these blocks of the device."""
        for source, destination in zip(host_blocks, device_blocks, strict=True):
            self._promotions.append(self._copy(source, destination, Pool.HOST_CACHE, Pool.DEVICE))
        self.counts.host_to_device += len(host_blocks) * self.block_size

    def is_ready(self, group: SequenceGroup, keys: Items[Key]) -> bool:
        """Can the head of the queue use everything now that it will find in a cache?

        If not, a read from the disk is under way, or begins now.

        Args:
            keys: of the head's prompt, after those that the device holds.
        """
        self._collect()
        if self._served is group:
            return True
        if self._fetch is None:
            self._host.release()  # it was held for a head that has left, or is no longer the head
        if not self._needs_disk(keys):
            return True
        return self._fetch is None and not self._begin(group, keys)

    def admitted(self, group: SequenceGroup) -> None:
        """The group has got what it found; if it is preempted, more may be read for it."""
        if self._served is group:
            self._served = None
            self._host.release()

    def _needs_disk(self, keys: Items[Key]) -> bool:
        """Is the first of these contents that the host lacks on the disk?"""
        missing = next((key for key in keys if key not in self._host), None)
        return missing is not None and missing in self._disk

    def _begin(self, group: SequenceGroup, keys: Items[Key]) -> bool:
        """Begin to read as much as the host has room for. Returns whether a read has begun.

        The first contents count most: later contents on the host may have to make room for them.
        """
        self._served = None
        sources: dict[Key, int] = {}
        blocks: dict[Key, int] = {}
        for key in keys:
            if key in self._host:
                self._host.hold(key)
                continue
            if key not in self._disk:
                break
            sources[key] = self._disk.hold(key)
            place = self._host_block()
            if place is None:
                break
            blocks[key] = place
        if not blocks:
            self._disk.release()
            return False
        self._flush()
        self.disk.read(
            [self._copy(sources[key], b, Pool.DISK, Pool.HOST_CACHE) for key, b in blocks.items()]
        )
        self._fetch = Fetch(group, blocks)
        return True

    def _collect(self) -> None:
        """Take in a read that has ended. After a failed read the contents are missing."""
        succeeded = None if self._fetch is None else self.disk.poll()
        if succeeded is None:
            return
        assert self._fetch is not None
        group, blocks = self._fetch
        self._fetch, self._served = None, group
        self._disk.release()
        for key, block in blocks.items():
            if not succeeded:
                self._disk.drop(key)
            if not succeeded or key in self._host:  # evicted from the device meanwhile
                self._host.give_back(block)
                continue
            self._host.put(key, block)
            self._host.hold(key)
            self._fetched.add(key)
            self.counts.disk_to_host += self.block_size

    # Moves

    def take_moves(self) -> tuple[list[Copy], list[Copy]]:
        """The moves of this iteration: from the device, and to it. The next iteration begins.

        Those from the device to the disk have begun (`Disk.write`); they are listed because they cost time.
        """
        self._flush()
        moves = self._evictions, self._promotions
        if self._evictions or self._promotions:
            self._evictions, self._promotions = [], []
        self._host.end_iteration()
        self._disk.end_iteration()
        return moves

    def _flush(self) -> None:
        if self._writes:
            self.disk.write(self._writes)
            self._writes = []

    def _copy(self, source: int, destination: int, source_pool: Pool, destination_pool: Pool) -> Copy:
        size = self.block_size
        return Copy(source * size, destination * size, size, source_pool, destination_pool)

    def check_integrity(self) -> None:
        """Every block is free, holds a content that is found, or is being filled."""
        self._host.check_integrity([] if self._fetch is None else self._fetch.blocks.values())
        self._disk.check_integrity(())
        assert all(key in self._host for key in self._fetched), "a fetched block was lost"
