"""The parts of a KV pool (the paper's Fig. 2); they always sum to its capacity."""

from __future__ import annotations

from typing import NamedTuple


class MemoryUsage(NamedTuple):
    """What every slot of the pool is used for in one iteration, in slots.

    Attributes:
        token_states: holds a token that a running sequence needs; a shared slot counts once.
        reserved: taken now, and will hold a token of its owner later.
        internal: taken, and will never hold a token of its owner.
        rounding: taken only because sizes are rounded up (buddy and block rounding).
        unusable: free, yet the manager had to refuse the head of the queue in this iteration.
        free: free, and no request was refused.
        shared: slots saved by sharing, logical less physical; not a part of the capacity.
    """

    token_states: int
    reserved: int
    internal: int
    rounding: int
    unusable: int
    free: int
    shared: int = 0

    @property
    def external(self) -> int:
        """External fragmentation: `rounding` + `unusable` (contiguous systems only)."""
        return self.rounding + self.unusable

    @property
    def capacity(self) -> int:
        return self.token_states + self.reserved + self.internal + self.external + self.free
