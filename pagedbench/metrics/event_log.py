"""EventLog: every change of the KV pool, in the order in which it happened (`--save-events`)."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.memory.moves import Pool
from pagedbench.metrics.eviction_costs import EvictionCosts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pagedbench.metrics.records import Steps


class Event(IntEnum):
    """What happened to a block or to a request. results/README.md says which columns each fills."""

    ALLOCATE = 0
    SHARE = 1
    COPY = 2
    FREE = 3
    KEEP = 4
    HIT = 5
    EVICT = 6
    SWAP_OUT = 7
    SWAP_IN = 8
    PREEMPT = 9
    ADMIT = 10
    FINISH = 11


TIERS = (Pool.DEVICE, Pool.HOST)
"""Where a block lies, by its number in the log."""

GAINS = (Event.ALLOCATE, Event.SHARE, Event.COPY, Event.HIT)
"""Events after which a sequence owns the block; after FREE it does not."""

ENTRY = ("moment", "event", "tier", "request_id", "sequence", "first", "length", "num_blocks")
"""Columns of an entry, which stands for one row of the table per block, or for one row without a block."""

NONE = -1
"""Stands for null in the integers of the log."""

_pack = Struct(f"{len(ENTRY)}i").pack
ENTRY_SIZE = Struct(f"{len(ENTRY)}i").size


@dataclass(frozen=True, slots=True)
class EventTable:
    """The log as columns, one row per event and block. Null is `NONE`, and NaN in `t_s`."""

    step: NDArray[np.int32]
    t_s: NDArray[np.float64]
    event: NDArray[np.int32]  # of `Event`
    block: NDArray[np.int32]
    request_id: NDArray[np.int32]
    sequence: NDArray[np.int32]
    tokens: NDArray[np.int32]
    tier: NDArray[np.int32]  # index into `TIERS`

    def __len__(self) -> int:
        return len(self.step)


class EventLog:
    """Collects entries as numbers; a long prompt costs no more than a single block.

    Attributes:
        block_size: tokens per block; None: the pool is divided into extents, and `block` is a first slot.
        moment: twice the number of the iteration, plus one after it has run.
        eviction_costs: evicted contents that were computed again.
    """

    def __init__(self, block_size: int | None) -> None:
        self.block_size = block_size
        self.moment = 0
        self.eviction_costs = EvictionCosts()
        self._entries = bytearray()
        self._blocks = array("i")

    @property
    def num_entries(self) -> int:
        return len(self._entries) // ENTRY_SIZE

    def add(
        self,
        event: Event,
        tier: int,
        blocks: Iterable[int] | None,
        request_id: int = NONE,
        sequence: int = NONE,
        first: int = 0,
        length: int = NONE,
    ) -> None:
        """Note what happened to blocks or, if `blocks` is None, to a request.

        Args:
            first: number of the first of these blocks in the sequence's table.
            length: tokens of the sequence that need slots; `NONE`: unknown.
        """
        before, num_blocks = len(self._blocks), 0
        if blocks is not None:
            self._blocks.extend(blocks)
            num_blocks = len(self._blocks) - before
            if not num_blocks:
                return
        self._entries += _pack(self.moment, event, tier, request_id, sequence, first, length, num_blocks)

    def add_one(
        self, event: Event, tier: int, block: int, request_id: int, sequence: int, first: int, length: int
    ) -> None:
        """`add` for a single block, the most frequent case."""
        self._blocks.append(block)
        self._entries += _pack(self.moment, event, tier, request_id, sequence, first, length, 1)

    def insert(self, index: int, event: Event, request_id: int) -> None:
        """Note what happened to a request, before entry number `index`, in the present iteration."""
        entry = _pack(self.moment, event, NONE, request_id, NONE, 0, NONE, 0)
        place = index * ENTRY_SIZE
        self._entries[place:place] = entry

    def table(self, steps: Steps) -> EventTable:
        """The whole log. Times are those of the iterations; an iteration that did not end has none."""
        entries = np.frombuffer(bytes(self._entries), dtype=np.int32).reshape(-1, len(ENTRY))
        num_blocks = entries[:, -1]
        num_rows = np.maximum(num_blocks, 1)
        entry = np.repeat(np.arange(len(entries)), num_rows)
        offset = np.arange(len(entry)) - np.repeat(np.cumsum(num_rows) - num_rows, num_rows)
        moment, event, tier, request_id, sequence, first, length, _ = entries[entry].T
        block = np.full(len(entry), NONE, dtype=np.int32)
        block[num_blocks[entry] > 0] = np.frombuffer(self._blocks, dtype=np.int32)
        tokens = length.copy()
        if self.block_size is not None:
            held = length - (first + offset) * self.block_size
            is_counted = (length != NONE) & (block != NONE)
            tokens[is_counted] = np.clip(held, 0, self.block_size)[is_counted]
            event = _with_shares(event, tier, block)
        times = np.append(np.column_stack((steps.start, steps.end)).ravel(), np.nan)
        t_s = times[np.minimum(moment, len(times) - 1)]
        return EventTable(moment // 2, t_s, event, block, request_id, sequence, tokens, tier)


def _with_shares(
    event: NDArray[np.int32], tier: NDArray[np.int32], block: NDArray[np.int32]
) -> NDArray[np.int32]:
    """The events, with SHARE instead of ALLOCATE for blocks that have an owner."""
    change = np.isin(event, GAINS).astype(np.int64) - (event == Event.FREE)
    key = np.where(block == NONE, NONE, len(TIERS) * block.astype(np.int64) + tier)
    order = np.argsort(key, kind="stable")
    sums = np.cumsum(change[order]) - change[order]
    starts = np.flatnonzero(np.diff(key[order], prepend=-2))
    sums -= np.repeat(sums[starts], np.diff(starts, append=len(sums)))
    num_owners = np.empty_like(sums)
    num_owners[order] = sums
    return np.where((event == Event.ALLOCATE) & (num_owners > 0), np.int32(Event.SHARE), event)
