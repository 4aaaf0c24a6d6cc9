"""CacheObserver: the interface of whatever follows the contents of a prefix cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.eviction import CachedBlock
    from pagedbench.memory.prefix import Key


class CacheObserver(Protocol):
    """Is told which blocks a prefix cache keeps and evicts."""

    def kept(self, blocks: Items[CachedBlock]) -> None:
        """The content of these blocks can be found again from now on."""
        ...

    def evicted(self, blocks: Items[int], keys: Items[Key]) -> None:
        """These blocks lose the contents with these keys, because their room is needed."""
        ...
