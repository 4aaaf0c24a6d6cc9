"""Random numbers that belong to what they decide, not to the order in which they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pagedbench.prompt import GOLDEN_GAMMA, mix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def uniforms(*keys: ArrayLike) -> NDArray[np.float64]:
    """A number in [0, 1) for every combination of keys; equal keys give equal numbers.

    Each key is mixed into the hash of those before (splitmix64), so that systems, batches and
    preemptions that compute a token in different iterations still draw the same number for it.

    Args:
        keys: integers of 0 or more, or arrays of them, which broadcast against each other.
    """
    state = np.zeros(np.broadcast_shapes(*map(np.shape, keys)), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            steps = np.asarray(key).astype(np.uint64) + np.uint64(1)
            state = mix(state + steps * np.uint64(GOLDEN_GAMMA))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53  # the 53 bits that a float64 holds
