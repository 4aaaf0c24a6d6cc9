"""The parts of a KV pool (the paper's Fig. 2); they always sum to its capacity."""

from __future__ import annotations

from typing import NamedTuple


class MemoryUsage(NamedTuple):
    """What every slot of the pool is used for in one iteration, in slots.

    Attributes:
        token_states: slots that hold a token of a running sequence; a shared slot counts once.
        reserved: taken slots that will hold a token of their owner later.
        internal: taken slots that will never hold a token of their owner.
        rounding: slots taken only because sizes are rounded up (buddy and block rounding).
        unusable: free slots, while the manager had to refuse the head of the queue in this iteration.
        free: free slots, while no request was refused.
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
