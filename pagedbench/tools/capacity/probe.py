"""Probe: one run of a search for a rate or a pool; `run` makes the same run with the same options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from pagedbench.plan import with_pool, with_room_for
from pagedbench.runs.bisection import MAX_RATE, rounded
from pagedbench.runs.limits import Limit, find_limit
from pagedbench.runs.traces import trace_of

if TYPE_CHECKING:
    from pagedbench.config import RunConfig
    from pagedbench.metrics.records import RunRecord
    from pagedbench.plan import Plan
    from pagedbench.remote.options import ServerOptions
    from pagedbench.runs.criterion import Criterion
    from pagedbench.tools.capacity.serving import Serve
    from pagedbench.workload.dataset import Dataset

MIN_REQUESTS = 10
"""A run with fewer requests says nothing about a rate."""

MAX_POOL = 8
"""A simulated device is tried with up to this many times its own pool, to see whether any pool suffices."""


class Goal(StrEnum):
    """What is searched for."""

    RATE = "rate"
    KV_MEMORY = "kv-memory"


class Crashed(Exception):
    """A run crashed; the message gives the error and its place."""


@dataclass(frozen=True, slots=True)
class Search:
    """What to find for one system, trace and seed, for several criteria over the same runs.

    The search is over a *load*, which is harder to sustain the higher it is: a rate, the speed-up of a
    trace's own timestamps, or how many times smaller than the plan's pool a pool is.

    Attributes:
        plan: a search for a rate uses its pool; a search for a pool tries it first.
        criteria: all of one kind, with different limits.
        tolerance: relative width of the interval at which the search ends.
        unit_rate: requests per second at load 1: 1, or the rate of the trace's own timestamps.
        may_exceed: a search for a pool may try pools that are too large for the device.
        batch_size: FasterTransformer's, from the command line.
        compared_length: longer runs, by this factor, show whether the result depends on the length; None:
            the user chose the length.
        server: how to reach the server of the runs; None: our engine serves them.
    """

    plan: Plan
    dataset: Dataset
    criteria: tuple[Criterion, ...]
    tolerance: float
    goal: Goal = Goal.RATE
    unit_rate: float = 1.0
    may_exceed: bool = False
    batch_size: int | None = None
    compared_length: int | None = None
    server: ServerOptions | None = None

    @property
    def facts(self) -> tuple[RunConfig, *tuple[object, ...]]:
        """What determines the outcome, apart from the files that options name."""
        more = (self.tolerance, self.goal, self.unit_rate, self.may_exceed, self.batch_size, self.server)
        return (self.plan.config, self.criteria, self.compared_length, self.plan.kv_slots, *more)

    @property
    def start(self) -> float:
        """The load tried first."""
        config = self.plan.config
        if self.goal is Goal.KV_MEMORY:
            return 1.0
        return rounded(1 / config.time_scale) if config.arrival == "trace" else config.rate

    @property
    def lowest(self) -> float:
        """The least load to try: below it, too few requests arrive in a run."""
        if self.goal is Goal.KV_MEMORY:
            return 1 / MAX_POOL if self.may_exceed else 1.0
        duration = self.plan.config.duration
        return 1 / MAX_RATE if duration is None else MIN_REQUESTS / (duration * self.unit_rate)

    @property
    def highest(self) -> float:
        """The highest load to try; as a pool: one that holds a longest request and the shared prefixes."""
        if self.goal is Goal.RATE:
            return MAX_RATE
        config = self.plan.config
        assert config.max_model_len is not None, "the configuration is not resolved"
        least = -(-config.max_model_len // config.block_size) * config.width
        least += config.shared_prefix_groups * (config.shared_prefix_len // config.block_size)
        return max(self.plan.num_blocks / least, 1.0)

    def plan_at(self, load: float, length: int) -> Plan:
        """The plan of a run. `length`: how many times as long as the search's own."""
        plan = self.plan
        if self.goal is Goal.KV_MEMORY:
            kv_slots = round(plan.num_blocks / load) * plan.config.block_size
            plan = with_pool(plan, kv_slots, self.batch_size)
        elif plan.config.arrival == "trace":
            plan = replace(plan, config=replace(plan.config, time_scale=rounded(1 / load)))
        else:
            plan = replace(plan, config=replace(plan.config, rate=load))
        if length == 1:
            return plan
        assert plan.config.duration is not None, "only a duration can be doubled"
        return replace(plan, config=replace(plan.config, duration=length * plan.config.duration))


@dataclass(frozen=True, slots=True)
class Result:
    """What a run says about a criterion.

    Attributes:
        figures: what the criterion bounds: means in seconds, or a share; None if the run was ended early
            because it could no longer meet any criterion.
        limit: why the criterion is missed; None if it is met.
    """

    figures: tuple[float, ...] | None
    limit: Limit | None

    @property
    def is_met(self) -> bool:
        return self.limit is None


@dataclass(frozen=True, slots=True)
class Probe:
    """One run of the search.

    Attributes:
        plan: the run's.
        rate: offered requests per second.
        running_mean: requests per iteration; None for a server, whose iterations are unknown.
        valid: as in summary.csv; a run that was ended early cannot be invalid.
        results: criterion -> result.
    """

    plan: Plan
    num_requests: int
    rate: float
    running_mean: float | None
    valid: bool
    results: dict[Criterion, Result]


def run_probe(search: Search, serve: Serve, load: float, length: int) -> Probe:
    """Offer one load: the same requests as `run` with the same options.

    Raises:
        Crashed: the run did.
    """
    plan = search.plan_at(load, length)
    config = plan.config
    trace = trace_of(plan, search.dataset)
    if search.batch_size is None and plan.server is None:
        plan = with_room_for(plan, trace.max_width(config.max_num_seqs))
    record = serve(plan, trace)
    if record.crash is not None:
        raise Crashed(record.crash)
    running = record.steps["running"]
    return Probe(
        plan=plan,
        num_requests=len(trace.requests),
        rate=trace.realised_rate if config.arrival == "trace" else config.rate,
        running_mean=float(running.mean()) if len(running) else 0.0 if plan.server is None else None,
        valid=record.interrupted or not record.invalid_because,
        results={criterion: _result(search, criterion, record) for criterion in search.criteria},
    )


def _result(search: Search, criterion: Criterion, record: RunRecord) -> Result:
    """Whatever the other requests do, a pool is too small if a request can never fit it, and a rate is too
    high for a server that leaves a request unanswered.
    """
    if record.interrupted:
        return Result(None, find_limit(record, criterion))
    figures = criterion.figures(record)
    is_met = criterion.is_met(figures)
    if search.goal is Goal.KV_MEMORY or search.server is not None:
        is_met &= bool(record.latencies.is_completed.all())
    return Result(figures, None if is_met else find_limit(record, criterion))
