"""Copy: keys and values move between slots, in a pool or from one pool to another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Pool(Enum):
    """Memory that holds keys and values, with its own slots."""

    DEVICE = "device"
    HOST = "host"  # groups that are swapped out
    HOST_CACHE = "host cache"  # evicted blocks of prefixes
    DISK = "disk"  # evicted blocks that the host has no room for


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy `num_slots` tokens' keys and values, in every layer, from slot `source` to `destination`."""

    source: int
    destination: int
    num_slots: int
    source_pool: Pool = Pool.DEVICE
    destination_pool: Pool = Pool.DEVICE
