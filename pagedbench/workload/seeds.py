"""One seed, split by purpose, so that drawing more for one purpose does not move another."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from pagedbench.workload.rows import TraceError


class Stream(IntEnum):
    """What random numbers of the workload are drawn for. The values are part of every result."""

    ARRIVALS = 0
    SHUFFLE = 1
    PROMPTS = 2
    LENGTHS = 3
    PREFIXES = 4


def generator(seed: int, stream: Stream) -> np.random.Generator:
    """The generator of one purpose; streams of one seed are independent.

    Raises:
        TraceError: the seed is negative.
    """
    if seed < 0:
        raise TraceError(f"seed is {seed}, but must be 0 or more")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(int(stream),))))
