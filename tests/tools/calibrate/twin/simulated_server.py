"""A server whose costs are known: it runs in virtual time, and is seen as a client would see it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.backend import SimulatedBackend
from pagedbench.loadgen.observation import Observation

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord
    from pagedbench.plan import Plan
    from pagedbench.workload.trace import Trace


@dataclass
class SimulatedServer:
    """Attributes:
    noise: standard deviation of the logarithm of single iterations' times.
    drift: the same of whole loads.
    delay: seconds from the client and back; chunks are late by an exponential of mean `jitter`.
    merged: share of the chunks that come together with the next one.
    """

    plan: Plan
    noise: float = 0.0
    drift: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    merged: float = 0.0
    seed: int = 0
    records: list[RunRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def send(self, trace: Trace) -> list[Observation]:
        record = self.serve(trace)
        return [self._observed(item, record) for item in record.requests]

    def serve(self, trace: Trace) -> RunRecord:
        """One run; the server is slower or faster than in others."""
        slow = float(np.exp(self.random.normal(0.0, self.drift)))
        noise, random, costs = self.noise, self.random, self.plan.step_times

        class Times:
            source = attention = ""

            def step_time(self, batch):
                factor = slow * np.exp(random.normal(0.0, noise)) if noise else slow
                return costs.step_time(batch) * float(factor)

        waits = tuple(w if w is None else replace(w, pause=w.pause + self.delay) for w in trace.waits)
        plan = replace(self.plan, step_times=Times())
        engine = SimulatedBackend().make_engine(plan, requests=trace.requests)
        record = engine.run(replace(trace, waits=waits).arrivals())
        self.records.append(record)
        return record

    def _observed(self, item, record):
        times = item.token_times(record.steps) + self.delay
        late = self.random.exponential(self.jitter, len(times)) if self.jitter else 0.0
        times = np.maximum.accumulate(times + late)
        tokens = np.ones(len(times), dtype=np.int64)
        if self.merged:
            keep = np.append(self.random.random(len(times) - 1) >= self.merged, True)
            ends = np.flatnonzero(keep)
            times, tokens = times[ends], np.diff(ends, prepend=-1)
        return Observation(
            request_id=item.request.request_id,
            scheduled=item.request.arrival_time,
            sent=item.request.arrival_time,
            chunk_times=times,
            chunk_tokens=tokens,
            finish=float(times[-1]),
            prompt_len=item.request.prompt_len,
            output_len=int(tokens.sum()),
            num_cached=0,
        )
