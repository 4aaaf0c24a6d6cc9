"""Student's t for whole degrees of freedom, and its power: closed forms, which save a dependency."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist


def probability_within(t: float, df: int) -> float:
    """The probability that |T| is at most `t`, with `df` degrees of freedom.

    Source: M. Abramowitz and I. Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    assert t >= 0
    assert df >= 1
    if math.isinf(t):
        return 1.0
    angle = math.atan2(t, math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    term = cosine if df % 2 else 1.0
    total = 0.0
    for k in range(2 + df % 2, df + 1, 2):  # each term is the one before, times (k - 1) / k and cos^2
        total += term
        term *= cosine**2 * (k - 1) / k
    within = 2 / math.pi * (angle + sine * total) if df % 2 else sine * total
    return min(within, 1.0)


def two_sided_p(t: float, df: int) -> float:
    """The probability of a |T| above `t`."""
    return 1.0 - probability_within(abs(t), df)


@lru_cache(maxsize=4096)
def critical_t(level: float, df: int) -> float:
    """The `t` that |T| stays within with probability `level` (0.95: of a 95 % interval).

    Found by bisection on the angle whose tangent is t / sqrt(df), which is bounded.
    """
    assert 0 <= level < 1, "a probability below 1"
    low, high = 0.0, math.pi / 2
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return math.sqrt(df) * math.tan(middle)
        if probability_within(math.sqrt(df) * math.tan(middle), df) < level:
            low = middle
        else:
            high = middle


GRID = 200
"""Points of the integral over the sample's standard deviation; four digits of the power."""


@lru_cache(maxsize=4096)
def detectable_shift(level: float, power: float, df: int) -> float:
    """The true mean, in standard errors, whose t exceeds `critical_t(level, df)` with probability `power`.

    This is the non-centrality of the t-test: the sample's standard deviation s (of a true one of 1) has
    the density s^(df - 1) exp(-df s^2 / 2), and given s the mean is normal.
    """
    critical, normal = critical_t(level, df), NormalDist()
    width = 10 / math.sqrt(2 * df)
    low, high = max(0.0, 1 - width), 1 + width
    deviations = [low + (high - low) * (i + 0.5) / GRID for i in range(GRID)]
    weights = [math.exp((df - 1) * math.log(s) - df * (s**2 - 1) / 2) for s in deviations]
    total = math.fsum(weights)
    shift, above = 0.0, 10 * (critical + 1)
    while above - shift > 1e-7 * above:
        middle = (shift + above) / 2
        found = math.fsum(
            weight * normal.cdf(middle - critical * s)
            for weight, s in zip(weights, deviations, strict=True)
        )
        shift, above = (middle, above) if found < power * total else (shift, middle)
    return above
