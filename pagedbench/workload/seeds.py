"""One seed, split by purpose: more random numbers for one purpose do not change another."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from pagedbench.workload.rows import TraceError


class Stream(IntEnum):
    """The purposes of random numbers in the workload. Changing a value would change every result."""

    ARRIVALS = 0
    SHUFFLE = 1
    PROMPTS = 2
    LENGTHS = 3
    PREFIXES = 4
    THINK_TIMES = 5


def generator(seed: int, stream: Stream) -> np.random.Generator:
    """The generator of one purpose; streams of one seed are independent.

    Raises:
        TraceError: the seed is negative.
    """
    if seed < 0:
        raise TraceError(f"seed is {seed}, but must be 0 or more")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(int(stream),))))
