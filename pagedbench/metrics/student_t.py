"""Student's t distribution, from scipy, which is imported when it is used."""

from __future__ import annotations

import math
from functools import lru_cache


def two_sided_p(t: float, df: int) -> float:
    """The probability of a larger |T| than `t`, with `df` degrees of freedom."""
    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(t)))


@lru_cache(maxsize=4096)
def critical_t(level: float, df: int) -> float:
    """The `t` such that |T| <= t with probability `level` (0.95 for a 95 % interval)."""
    from scipy.special import stdtrit

    assert 0 <= level < 1, "a probability below 1"
    return float(stdtrit(df, (1 + level) / 2))


@lru_cache(maxsize=4096)
def detectable_shift(level: float, power: float, df: int) -> float:
    """The true mean, in standard errors, whose t exceeds `critical_t(level, df)` with probability `power`.

    This is the non-centrality of the t-test.
    """
    from scipy.special import nctdtrinc

    shift = float(nctdtrinc(df, 1 - power, critical_t(level, df)))
    assert math.isfinite(shift), "the power is out of reach"
    return shift
