"""PoolSpec: the pool that a memory manager is built for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.memory.layer_group import ALL_LAYERS

if TYPE_CHECKING:
    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.pages import PageSpec

WATERMARK = 0.01
"""Share of the blocks that admission leaves free (paper; `watermark` in the authors' code)."""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """The pool that a manager is built for. Lengths in tokens, capacities in slots.

    Attributes:
        host_slots: capacity of the host's pool, for managers that swap; None: as large as the device's.
        prefix_caching: reuse blocks of shared prompt prefixes, for managers that cache prefixes.
        batch_size: requests of a closed batch, for managers with equal extents.
        watermark: share of the blocks that admission leaves free, for managers with a watermark.
        eviction: which block of a prefix cache loses its content; None: the least recently used.
        host_cache_slots, disk_cache_slots: capacities of the tiers, for managers that have them.
        layer_groups: groups of equal size, for managers that keep groups apart; see `equal_groups`.
        max_chunk_len: most tokens of a prompt that one iteration computes; None: the whole prompt.
        pages: how virtual slots get memory, for managers that commit pages; None: the manager's default.
    """

    num_slots: int
    block_size: int
    max_model_len: int
    host_slots: int | None = None
    prefix_caching: bool = False
    batch_size: int = 1
    watermark: float = WATERMARK
    eviction: EvictionPolicy | None = None
    host_cache_slots: int = 0
    disk_cache_slots: int = 0
    layer_groups: tuple[LayerGroup, ...] = (ALL_LAYERS,)
    max_chunk_len: int | None = None
    pages: PageSpec | None = None
