"""Replays one trace on the real device and on its profile, to measure the errors of the profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.backend import SimulatedBackend
from pagedbench.metrics.formulas import summarize
from pagedbench.runs.traces import trace_of
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pagedbench.backend import Backend, ModelBackend
    from pagedbench.plan import Plan
    from pagedbench.simulation.profile import Profile

LOADS = {"half": 0.5, "full": 1.0, "double": 2.0}
"""Loads by name, as shares of the rate that the machine sustains according to its profile."""

METRICS = ("normalized_latency_mean_s", "request_throughput", "tpot_p50_ms")
KV_PARTS = ("token_states", "reserved", "internal", "external", "free")


@dataclass(frozen=True, slots=True)
class Replay:
    """One trace on the real machine and on its profile.

    Attributes:
        load: a key of `LOADS`.
        rate: requests per second.
        values: metric -> measured, simulated.
        kv_points: the largest difference in any part of the KV pool, in percentage points.
    """

    load: str
    rate: float
    values: dict[str, tuple[float, float]]
    kv_points: float


def replays(
    plan: Plan, backend: ModelBackend, profile: Profile, num_requests: int, tell: Callable[[str], None]
) -> Iterator[Replay]:
    """Replay the trace at several loads; nothing without requests."""
    if not num_requests:
        return
    costs = profile.costs(plan.system.attention, plan.config.block_size)
    simulated = replace(plan, step_times=costs, kernels="simulated")
    at_once = _summary(SimulatedBackend(), simulated, num_requests, float("inf"))
    sustained = at_once["request_throughput"]
    backend.warm_up(plan)
    for load, share in LOADS.items():
        rate = sustained * share
        tell(f"replaying {num_requests} requests at {rate:.3g} requests/s")
        measured = _summary(backend, plan, num_requests, rate)
        expected = _summary(SimulatedBackend(), simulated, num_requests, rate)
        values = {name: (measured[name], expected[name]) for name in METRICS}
        parts = (f"kv_{part}_pct" for part in KV_PARTS)
        yield Replay(load, rate, values, max(abs(measured[part] - expected[part]) for part in parts))


def _summary(backend: Backend, plan: Plan, num_requests: int, rate: float) -> dict[str, float]:
    """The metrics of a run of ShareGPT requests at a rate; every request completes."""
    config = replace(plan.config, trace="sharegpt", rate=rate, num_requests=num_requests, duration=None)
    trace = trace_of(replace(plan, config=config), load_dataset("sharegpt"))
    summary = summarize(backend.make_engine(plan).run(trace.arrivals()))
    return {name: float(value) for name, value in summary.items() if isinstance(value, int | float)}
