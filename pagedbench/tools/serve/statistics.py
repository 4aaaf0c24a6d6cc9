"""Statistics: the contents of /metrics, counted in the engine's thread; they do not grow with time."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.memory.usage import MemoryUsage

FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
               20.0, 40.0, 80.0, 160.0, 640.0, 2560.0)  # fmt: skip
TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
         40.0, 80.0)  # fmt: skip
REQUEST = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
           480.0, 960.0, 1920.0, 7680.0)  # fmt: skip
DELIVERY = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0)
"""Upper ends of buckets in seconds; the first three are vLLM's."""


@dataclass(slots=True)
class Histogram:
    """Counts by bucket, and the sum of the values."""

    ends: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.ends) + 1)

    def add(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.ends, value)] += times
        self.total += times * value


@dataclass(slots=True)
class Statistics:
    """Counts since the start, and the state after the last iteration."""

    num_running: int = 0
    num_waiting: int = 0
    usage: MemoryUsage | None = None
    num_preemptions: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    num_turns: int = 0
    finished: Counter[str] = field(default_factory=Counter)  # by reason
    first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN))
    inter_token: Histogram = field(default_factory=lambda: Histogram(TOKEN))
    per_token: Histogram = field(default_factory=lambda: Histogram(TOKEN))
    latency: Histogram = field(default_factory=lambda: Histogram(REQUEST))
    queue: Histogram = field(default_factory=lambda: Histogram(REQUEST))
    delivery: Histogram = field(default_factory=lambda: Histogram(DELIVERY))
