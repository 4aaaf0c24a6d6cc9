"""EvictionCosts: which evicted contents of the prefix cache were computed again, and by which request."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items

    from pagedbench.memory.eviction import CachedBlock
    from pagedbench.memory.prefix import Key


class Cost(NamedTuple):
    """Contents that were evicted in one iteration for one request, and computed again for another.

    Attributes:
        step, again_step: the iterations of the eviction and of the second computation.
        cause_id: the request that they made room for; None: no request (they expired).
        again_id: the request that computed them again.
    """

    step: int
    cause_id: int | None
    again_step: int
    again_id: int


class EvictionCosts:
    """Remembers the key of every evicted content until it is computed again, however long the run."""

    def __init__(self) -> None:
        self._lost: dict[Key, tuple[int, int | None]] = {}
        self._sizes: dict[Cost, list[int]] = {}  # blocks and tokens

    def evicted(self, keys: Iterable[Key], step: int, cause_id: int | None) -> None:
        """These contents are lost."""
        self._lost.update(dict.fromkeys(keys, (step, cause_id)))

    def kept(self, blocks: Items[CachedBlock], step: int, request_id: int, num_cached: int) -> None:
        """A request has these contents; it computes those after its first `num_cached` tokens."""
        for block in blocks:
            lost = self._lost.pop(block.key, None)
            if lost is not None and block.start >= num_cached:
                sizes = self._sizes.setdefault(Cost(*lost, step, request_id), [0, 0])
                sizes[0] += 1
                sizes[1] += block.num_tokens

    def rows(self) -> list[tuple[Cost, int, int]]:
        """Every cost with its blocks and tokens, in order of the second computation."""
        return [(cost, blocks, tokens) for cost, (blocks, tokens) in self._sizes.items()]
