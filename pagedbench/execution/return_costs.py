"""MeasuredCosts: how long the return of a preempted group takes on this device, from two measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pagedbench.clock import WallClock
from pagedbench.execution.step_inputs import MoveInputs
from pagedbench.memory.moves import Pool

if TYPE_CHECKING:
    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.ops.interface import Ops

REPEATS = 3
"""Measurements, of which the fastest counts."""


@dataclass(frozen=True, slots=True)
class MeasuredCosts:
    """Seconds per token: of a prompt that is computed alone, and of a move to the host and back."""

    recompute: float
    swap: float

    def recompute_time(self, num_tokens: int) -> float:
        return self.recompute * num_tokens

    def swap_time(self, num_slots: int) -> float:
        return self.swap * num_slots


def swap_seconds(cache: KVCache, ops: Ops, num_slots: int, block_size: int) -> float:
    """Seconds per token to move the first `num_slots` slots to the host and back, block by block.

    The content of these slots stays; that of the host pool is lost.
    """
    starts = np.arange(0, num_slots, block_size, dtype=np.int64)
    runs = np.stack([starts, starts, np.minimum(block_size, num_slots - starts)], axis=1)
    times, clock = [], WallClock()
    for _ in range(REPEATS):
        clock.start()
        cache.move(MoveInputs(Pool.DEVICE, Pool.HOST, runs), ops)
        cache.move(MoveInputs(Pool.HOST, Pool.DEVICE, runs), ops)
        cache.join_swaps()
        if cache.device.type == "cuda":
            torch.cuda.synchronize(cache.device)
        times.append(clock.now)
    return min(times) / num_slots
