"""Sums of products whose last digit depends only on the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def weighted_sum(weights: NDArray[np.floating], values: NDArray[np.number]) -> float:
    """The sum of `weights * values`, in numpy's own order.

    The order of a product by `@` is that of BLAS, which depends on where the arrays lie in memory and on
    the number of threads.
    """
    return float((weights * values).sum())
