"""Curve: the hit rates of a prefix cache over the size of the pool, alone and in an engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pagedbench.memory.evictions import EVICTIONS
from pagedbench.plan import with_pool
from pagedbench.policies import eviction_policy
from pagedbench.pool import MAX_BLOCKS
from pagedbench.runs.parallel import stopping
from pagedbench.runs.runner import Runner
from pagedbench.simulation.cache_alone import full_blocks, lru_curve, simulate_cache

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.config import RunConfig
    from pagedbench.plan import Plan
    from pagedbench.runs.jobs import Job
    from pagedbench.runs.parallel import Stop
    from pagedbench.simulation.cache_alone import LruCurve
    from pagedbench.workload.trace import Trace

Row = dict[str, Any]

NUM_POOLS = 6
"""Number of pool sizes if none are given: from room for the longest request to room for everything."""

MEASURED = ("output_throughput", "ttft_p50_ms", "ttft_p99_ms", "evicted_blocks", "failed")
"""Figures of the engine other than its hits."""


@dataclass(frozen=True, slots=True)
class Point:
    """A policy and a pool: the cache alone if `plan` is None, else an engine."""

    config: RunConfig
    num_blocks: int
    pool_bytes: int
    trace: Trace
    plan: Plan | None

    @property
    def facts(self) -> tuple[RunConfig, *tuple[object, ...]]:
        """What determines the row, apart from the files that options name."""
        return (
            self.config,
            self.trace.sha256,
            self.trace.arrivals_sha256,
            self.num_blocks,
            self.plan is None,
        )

    @property
    def name(self) -> str:
        where = "alone" if self.plan is None else "engine"
        return f"{self.config.eviction} {self.num_blocks} blocks, {where}"


def points_of(jobs: Items[Job], *, sizes_are_given: bool) -> list[Point]:
    """The cache alone and the engine, for every policy at every size; LRU alone is `Whole`.

    Args:
        jobs: one per policy, and per size if `sizes_are_given`.
    """
    if not sizes_are_given:
        sizes = default_sizes(jobs[0])
        jobs = [replace(job, plan=with_pool(job.plan, size, None)) for size in sizes for job in jobs]
    points = []
    for job in sorted(jobs, key=lambda job: job.plan.kv_slots):
        shared = (job.plan.config, job.plan.num_blocks, job.plan.kv_bytes, job.trace)
        points.append(Point(*shared, job.plan))
        if job.plan.config.eviction != "lru":
            points.append(Point(*shared, None))
    return points


def default_sizes(job: Job) -> list[int]:
    """Pools in tokens, growing by a constant factor."""
    size = job.plan.config.block_size
    requests = job.trace.requests
    distinct = {key for blocks in full_blocks(requests, size) for key in blocks.keys}
    most = min(2 * len(distinct) + requests[0].sampling.width, MAX_BLOCKS)
    longest = max(request.sampling.width * request.max_len for request in requests)
    least = min(2 * -(-longest // size), most)
    factor = (most / least) ** (1 / (NUM_POOLS - 1))
    blocks = [round(least * factor**power) for power in range(NUM_POOLS)]
    return [size * number for number in dict.fromkeys(blocks)]


def measure(point: Point, stop: Stop) -> Row | None:
    """One row. Hits in percent, of all requests (with an empty cache at first) and of the second half.

    None: `stop` ended the run.
    """
    row = _row(point, "engine" if point.plan else "alone")
    row |= _alone(point) if point.plan is None else _engine(point, point.plan, stop)
    return None if point.plan is not None and stop.is_set() else row


def _row(point: Point, where: str) -> Row:
    size = {"kv_blocks": point.num_blocks, "kv_gib": point.pool_bytes / 2**30}
    return {"policy": point.config.eviction, "where": where, **size, **dict.fromkeys(MEASURED)}


def _alone(point: Point) -> Row:
    requests = full_blocks(point.trace.requests, point.config.block_size)
    policy = eviction_policy(point.config) or EVICTIONS["lru"]()
    found = simulate_cache(requests, point.num_blocks, policy)
    hits = {"hit_pct": 100 * found.cold.share, "warm_hit_pct": 100 * found.warm.share}
    return hits | {"evicted_blocks": found.num_evicted}


def _engine(point: Point, plan: Plan, stop: Stop) -> Row:
    runner = Runner()
    result = runner.run(runner.prepare(plan, point.trace), lambda engine: stopping(stop, engine.stop))
    second = result.record.requests[len(result.record.requests) // 2 :]
    asked = sum(item.request.prompt_len for item in second)
    warm = 100 * sum(item.num_cached for item in second) / asked if asked else None
    hits = {"hit_pct": result.values["prefix_hit_pct"], "warm_hit_pct": warm}
    return hits | {name: result.values[name] for name in MEASURED}


@dataclass(frozen=True, slots=True)
class Whole:
    """LRU alone at all sizes, from one pass over the requests."""

    curve: LruCurve
    block_bytes: float

    @classmethod
    def of(cls, point: Point) -> Whole:
        requests = full_blocks(point.trace.requests, point.config.block_size)
        return cls(lru_curve(requests), point.pool_bytes / point.num_blocks)

    def at(self, points: Items[Point]) -> list[Row]:
        """The rows of the cache alone that correspond to the engines with LRU."""
        chosen = [point for point in points if point.plan and point.config.eviction == "lru"]
        return [_row(point, "alone") | self._hits(point.num_blocks) for point in chosen]

    def rows(self, number: int = 60) -> list[Row]:
        """The rows at `number` sizes, up to the largest that helps."""
        largest = max(len(self.curve.cold) - 1, 1)
        sizes = dict.fromkeys(max(round(largest ** (step / number)), 1) for step in range(1, number + 1))
        return [
            {"kv_blocks": size, "kv_gib": size * self.block_bytes / 2**30, **self._hits(size)}
            for size in sizes
        ]

    def _hits(self, num_blocks: int) -> Row:
        cold, warm = self.curve.at(num_blocks)
        return {"hit_pct": 100 * cold.share, "warm_hit_pct": 100 * warm.share}
