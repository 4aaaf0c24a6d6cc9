"""Replays: one trace really and in virtual time, to see how far a machine's profile is off."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.backend import SimulatedBackend
from pagedbench.metrics.formulas import summarize
from pagedbench.request import SamplingParams
from pagedbench.runs.memory_bandwidth import is_same
from pagedbench.workload.dataset import load_dataset
from pagedbench.workload.prompts import SharedPrefixes
from pagedbench.workload.trace import build_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pagedbench.backend import ModelBackend
    from pagedbench.plan import Plan
    from pagedbench.runs.memory_bandwidth import BandwidthMeter
    from pagedbench.simulation.profile import Profile
    from pagedbench.workload.trace import Trace

LOADS = {"half": 0.5, "full": 1.0, "double": 2.0}
"""Of the rate that the machine sustains, as its profile says."""

METRICS = ("normalized_latency_mean_s", "request_throughput", "tpot_p50_ms")
KV_PARTS = ("token_states", "reserved", "internal", "external", "free")


@dataclass(frozen=True, slots=True)
class Replay:
    """One trace on the real machine and on its profile.

    Attributes:
        load: in words.
        rate: requests per second.
        values: metric -> measured, simulated.
        kv_points: the most that any part of the KV pool differs by, in percent points.
        has_same_bandwidth: memory was read as fast as for the profile, before and after the real run.
    """

    load: str
    rate: float
    values: dict[str, tuple[float, float]]
    kv_points: float
    has_same_bandwidth: bool


def replays(
    plan: Plan,
    backend: ModelBackend,
    profile: Profile,
    num_requests: int,
    meter: BandwidthMeter,
    bandwidth: float | None,
    tell: Callable[[str], None],
) -> Iterator[Replay]:
    """The same trace, really and in virtual time, at several loads; nothing without requests.

    Args:
        bandwidth: of memory when the profile was measured.
    """
    if not num_requests:
        return
    simulated = replace(
        plan, step_times=profile.costs(plan.system.attention, plan.config.block_size), kernels="simulated"
    )
    everything = _trace(plan, num_requests, float("inf"))
    sustained = summarize(SimulatedBackend().make_engine(simulated).run(everything.arrivals()))
    rate = _float(sustained["request_throughput"])
    backend.warm_up(plan)
    for load, share in LOADS.items():
        trace = _trace(plan, num_requests, rate * share)
        tell(f"replaying {num_requests} requests at {rate * share:.3g} requests/s")
        before = meter.read()
        measured = summarize(backend.make_engine(plan).run(trace.arrivals()))
        is_at_bandwidth = is_same(before, bandwidth) and is_same(meter.read(), bandwidth)
        expected = summarize(SimulatedBackend().make_engine(simulated).run(trace.arrivals()))
        values = {name: (_float(measured[name]), _float(expected[name])) for name in METRICS}
        parts = (f"kv_{part}_pct" for part in KV_PARTS)
        points = max(abs(_float(measured[part]) - _float(expected[part])) for part in parts)
        yield Replay(load, rate * share, values, points, is_at_bandwidth)


def _float(value: object) -> float:
    assert isinstance(value, int | float), "every request has been completed"
    return float(value)


def _trace(plan: Plan, num_requests: int, rate: float) -> Trace:
    config = plan.config
    return build_trace(
        load_dataset("sharegpt"),
        arrival="poisson",
        rate=rate,
        burstiness=1.0,
        num_requests=num_requests,
        duration=None,
        max_model_len=config.max_model_len or plan.shape.max_model_len,
        decoding=SamplingParams(max_tokens=0),
        shared=SharedPrefixes(0, 1, plan.shape.vocab_size),
        seed=config.seed,
    )
