"""Pools: the KV pool of a backend, in the layout that each engine's memory manager needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.execution.virtual_cache import VirtualCache

if TYPE_CHECKING:
    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.execution.model_runner import PoolLayout
    from pagedbench.simulation.shapes import ModelShape


class Pools:
    """A pool with memory for every slot and, for managers that commit pages, the latest virtual one."""

    def __init__(self, shape: ModelShape, cache: KVCache) -> None:
        self.cache = cache
        self._shape = shape
        self._virtual: dict[tuple[int, int], KVCache] = {}

    def of(self, layout: PoolLayout) -> KVCache:
        """The pool for an engine."""
        pages = layout.pages
        if pages is None:
            return self.cache.in_groups(layout.layer_groups)
        key = (pages.spec.page_bytes, pages.num_addresses)
        if key not in self._virtual:
            self._virtual = {key: VirtualCache(self._shape, pages, self.cache.dtype)}
        return self._virtual[key]
