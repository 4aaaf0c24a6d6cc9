"""Replays: one trace really and in virtual time, to see how far a machine's profile is off."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pagedbench.backend import SimulatedBackend
from pagedbench.metrics.formulas import summarize
from pagedbench.request import SamplingParams
from pagedbench.runs.memory_pace import wait_for
from pagedbench.runs.pace import alike
from pagedbench.tools.calibrate.report import MOSTLY, Replay
from pagedbench.workload.dataset import load_dataset
from pagedbench.workload.prompts import SharedPrefixes
from pagedbench.workload.trace import build_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pagedbench.backend import ModelBackend
    from pagedbench.engine import Engine
    from pagedbench.metrics.formulas import Value
    from pagedbench.plan import Plan
    from pagedbench.runs.memory_pace import PaceMeter
    from pagedbench.runs.pace import Pace
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import Executor, Samples
    from pagedbench.simulation.profile import Profile
    from pagedbench.workload.trace import Trace

LOADS = {"half": 0.5, "full": 1.0, "double": 2.0}
"""Of the rate that the machine sustains, as its profile says."""

METRICS = ("normalized_latency_mean_s", "request_throughput", "tpot_p50_ms")
KV_PARTS = ("token_states", "reserved", "internal", "external", "free")

READ_EVERY_S = 0.25
"""Seconds; reading the pace takes two or three milliseconds, which the run pays for."""

ENOUGH = MOSTLY
"""Of a run's readings at the profile's pace, for the run to be compared."""

NUM_TRIES, PATIENCE_S = 3, 20.0
"""Runs of one load, and how long each waits for the pace."""


class PaceWatch:
    """Stands before an engine's executor, and reads the memory's pace now and then."""

    def __init__(self, engine: Engine, meter: PaceMeter) -> None:
        self.paces: list[Pace | None] = [meter.read()]
        self._meter = meter
        self._clock = engine.clock
        self._executor: Executor = engine.executor
        self._last = 0.0
        engine.executor = self

    def execute(self, batch: Batch) -> Samples:
        if self._clock.now - self._last >= READ_EVERY_S:
            self._last = self._clock.now
            self.paces.append(self._meter.read())
        return self._executor.execute(batch)

    def share(self, pace: Pace | None) -> float:
        """Of the readings, how many were at the pace."""
        return sum(alike(own, pace) for own in self.paces) / len(self.paces)


def replays(
    plan: Plan,
    backend: ModelBackend,
    profile: Profile,
    num_requests: int,
    meter: PaceMeter,
    pace: Pace | None,
    tell: Callable[[str], None],
) -> Iterator[Replay]:
    """The same trace, really and in virtual time, at several loads; nothing without requests.

    Args:
        pace: what the memory had when the profile was measured. A run at another one is run again.
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
        measured, at_pace = _measured(plan, backend, trace, meter, pace)
        expected = summarize(SimulatedBackend().make_engine(simulated).run(trace.arrivals()))
        values = {name: (_float(measured[name]), _float(expected[name])) for name in METRICS}
        parts = (f"kv_{part}_pct" for part in KV_PARTS)
        points = max(abs(_float(measured[part]) - _float(expected[part])) for part in parts)
        yield Replay(load, rate * share, values, points, at_pace)


def _measured(
    plan: Plan, backend: ModelBackend, trace: Trace, meter: PaceMeter, pace: Pace | None
) -> tuple[dict[str, Value], float]:
    """The real run, and the share of it at the pace: of several tries the one with the largest share."""
    best: tuple[dict[str, Value], float] = {}, -1.0
    for _ in range(NUM_TRIES):
        wait_for(meter, pace, PATIENCE_S)
        engine = backend.make_engine(plan)
        watch = PaceWatch(engine, meter)
        record = engine.run(trace.arrivals())
        share = watch.share(pace)
        if share > best[1]:
            best = summarize(record), share
        if share >= ENOUGH:
            break
    return best


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
