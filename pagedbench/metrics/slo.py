"""SLO: bounds on the latencies of single requests, and which requests meet them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.metrics.latency import Latencies

BOUNDED = {
    "ttft": "ttft",
    "tpot": "tpot",
    "itl": "longest_gap",
    "e2el": "e2el",
    "normalized_latency": "normalized_latency",
    "queue_time": "queue_time",
}
"""Names in bounds, and the columns of `Latencies` that they limit: for `itl`, the longest gap."""

UNITS = {"ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Slo:
    """A service level objective: the longest time, in seconds, that a request may take for each name."""

    bounds: tuple[tuple[str, float], ...]

    def is_met(self, latencies: Latencies) -> NDArray[np.bool_]:
        """Which requests completed within every bound.  # [num_requests]

        A reply of one token has no `tpot` and no `itl`, so it meets bounds on them.
        """
        met = latencies.is_completed.copy()
        for name, limit in self.bounds:
            value: NDArray[np.float64] = getattr(latencies, BOUNDED[name])
            met &= np.isnan(value) | (value <= limit)
        return met


def parse_slo(text: str) -> Slo:
    """Read bounds such as `ttft:500ms tpot:50ms normalized_latency:0.2s`.

    Raises:
        ValueError: one sentence that names the word which is wrong.
    """
    bounds: dict[str, float] = {}
    for word in re.split(r"[\s,]+", text.strip()):
        name, limit = _parse_bound(word)
        if name in bounds:
            raise ValueError(f"the SLO bounds {name} twice: give it once")
        bounds[name] = limit
    return Slo(tuple(bounds.items()))


def _parse_bound(word: str) -> tuple[str, float]:
    name, colon, value = word.partition(":")
    if not colon or name not in BOUNDED:
        raise ValueError(
            f"an SLO is made of bounds such as ttft:500ms, on {', '.join(BOUNDED)}; {word!r} is none"
        )
    match = re.fullmatch(r"([0-9.eE+-]+)(ms|s)", value)
    try:
        limit = float(match[1]) * UNITS[match[2]] if match else math.nan
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise ValueError(
            f"the bound on {name} must be a time above 0 in ms or s, such as 500ms, not {value!r}"
        )
    return name, limit
