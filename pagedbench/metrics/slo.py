"""SLO: bounds on the latencies of single requests, presets of them, and which requests meet them."""

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
class Preset:
    """Bounds with a name, and the data set and model size that they were chosen for."""

    bounds: str
    meaning: str


SOURCE = "DistServe, OSDI 2024 (evaluation/ae-scripts/e2e/_plot.py of its artifact)"
PRESETS = {
    "chat": Preset("ttft:250ms tpot:100ms", "ShareGPT, 13 B parameters"),
    "chat-66b": Preset("ttft:400ms tpot:100ms", "ShareGPT, 66 B parameters"),
    "chat-175b": Preset("ttft:4s tpot:200ms", "ShareGPT, 175 B parameters"),
    "code": Preset("ttft:125ms tpot:200ms", "HumanEval, 66 B parameters"),
    "summarize": Preset("ttft:15s tpot:150ms", "LongBench, 66 B parameters"),
}
"""Named bounds from SOURCE, which requires that 90 % of the requests meet them."""


@dataclass(frozen=True, slots=True)
class Slo:
    """A service level objective.

    Attributes:
        bounds: the longest time, in seconds, that a request may take for each name.
        presets: the names of the presets that were given.
    """

    bounds: tuple[tuple[str, float], ...]
    presets: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(f"{name}:{_time_text(limit)}" for name, limit in self.bounds)

    @property
    def sources(self) -> list[str]:
        """The source of each preset's bounds, in words."""
        return [f"{name}: {SOURCE}, {PRESETS[name].meaning}" for name in self.presets]

    def is_met(self, latencies: Latencies) -> NDArray[np.bool_]:
        """Which requests completed within every bound.  # [num_requests]

        A reply of one token has no `tpot` and no `itl`, so it meets bounds on them. A longer reply whose
        `tpot` or `itl` is not known does not.
        """
        met = latencies.is_completed.copy()
        for name, limit in self.bounds:
            value: NDArray[np.float64] = getattr(latencies, BOUNDED[name])
            met &= (np.isnan(value) & (latencies.output_len <= 1)) | (value <= limit)
        return met

    def is_known(self, latencies: Latencies) -> bool:
        """Whether every bounded time is known: a server may send several tokens at once."""
        long = latencies.is_completed & (latencies.output_len > 1)
        return not any(np.isnan(getattr(latencies, BOUNDED[name])[long]).any() for name, _ in self.bounds)


def parse_slo(text: str) -> Slo:
    """Read bounds such as `ttft:500ms tpot:50ms normalized_latency:0.2s`, and names of presets.

    Raises:
        ValueError: one sentence that names the wrong word.
    """
    bounds: dict[str, float] = {}
    words = re.split(r"[\s,]+", text.strip())
    for word in words:
        for bound in PRESETS[word].bounds.split() if word in PRESETS else (word,):
            name, limit = _parse_bound(bound)
            if name in bounds:
                raise ValueError(f"the SLO bounds {name} twice: give it once")
            bounds[name] = limit
    return Slo(tuple(bounds.items()), tuple(word for word in words if word in PRESETS))


def _time_text(seconds: float) -> str:
    return f"{seconds:g}s" if seconds >= 1 else f"{1000 * seconds:g}ms"


def _parse_bound(word: str) -> tuple[str, float]:
    name, colon, value = word.partition(":")
    if not colon or name not in BOUNDED:
        raise ValueError(
            f"an SLO is made of bounds such as ttft:500ms, on {', '.join(BOUNDED)}, or is one of "
            f"{', '.join(PRESETS)}; {word!r} is not one of them"
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
