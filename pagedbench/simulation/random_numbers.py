"""Random numbers that are functions of keys, not of the order in which they are generated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pagedbench.prompt import GOLDEN_GAMMA, mix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def uniforms(*keys: ArrayLike) -> NDArray[np.float64]:
    """A number in [0, 1) for every combination of keys; equal keys give equal numbers.

    Each key is mixed into the hash of the keys before (splitmix64), so a token gets the same number in
    every system, whatever the batches and preemptions.

    Args:
        keys: integers of 0 or more, or arrays of them, which are broadcast together.
    """
    state = np.zeros(np.broadcast_shapes(*map(np.shape, keys)), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            steps = np.asarray(key).astype(np.uint64) + np.uint64(1)
            state = mix(state + steps * np.uint64(GOLDEN_GAMMA))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53  # the 53 bits that a float64 holds
