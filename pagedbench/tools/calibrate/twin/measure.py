"""Measures a server: which loads are sent, for how long, and the errors of the predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pagedbench.backend import SimulatedBackend
from pagedbench.config import ConfigError
from pagedbench.metrics.formulas import summarize
from pagedbench.plan import plan_on
from pagedbench.remote.records import record_of
from pagedbench.runs.prediction import as_client, predict
from pagedbench.runs.traces import trace_of
from pagedbench.tools.calibrate.twin.fit import fit_twin
from pagedbench.tools.calibrate.twin.iterations import iterations_of
from pagedbench.tools.calibrate.twin.loads import designed_loads, probe
from pagedbench.tools.calibrate.twin.sent_load import SentLoad, refuse_unusable
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Sequence as Items

    from pagedbench.config import RunConfig
    from pagedbench.loadgen.observation import Observation
    from pagedbench.metrics.records import RunRecord
    from pagedbench.plan import Plan
    from pagedbench.simulation.profile import Profile
    from pagedbench.tools.calibrate.twin.fit import Fit
    from pagedbench.tools.calibrate.twin.loads import Limits
    from pagedbench.workload.trace import Trace

    Send: TypeAlias = Callable[[Trace], Items[Observation]]
    """Sends a load to the server, and returns when every reply has ended."""

    AsProfile: TypeAlias = Callable[[Fit, int], Profile]
    """Makes the profile of a fit to a number of requests."""

SHARES = (0.4, 0.8)
"""Rates of the loads with random arrivals, as shares of the sustained rate according to the fit so far."""

DESIGNED_SHARE, RANDOM_SHARE = 0.4, 0.2
"""Shares of the time for the first round of designed loads, and for each of the loads at a rate."""

NUM_SEEDS, MOST_ROUNDS = 1 << 20, 1 << 8
"""Seeds and rounds up to these lead to loads that have no prompt in common."""

RANDOM_SEED = 1 << 40
"""Seeds of the loads at a rate begin here, so that their prompts occur neither in another load nor in a run
with the user's seed, and a prefix cache has none of them."""

NUM_BACKLOGGED = 64
"""Requests, all present at the start, of the simulated run that determines the sustained rate."""

LEAST_ITERATIONS = 100
METRICS = ("ttft_mean_ms", "tpot_mean_ms", "normalized_latency_mean_s", "request_throughput")


@dataclass(frozen=True, slots=True)
class Compared:
    """A metric of a load: the measured value, and the predicted one with its interval."""

    measured: float
    predicted: float
    low: float
    high: float

    @property
    def is_inside(self) -> bool:
        return self.low <= self.measured <= self.high


@dataclass(frozen=True, slots=True)
class Check:
    """A load at a rate: its measured values, and those that the previous fit predicts, by metric."""

    share: float
    rate: float
    values: dict[str, Compared]


@dataclass(frozen=True, slots=True)
class Measured:
    """The outcome of a server's measurement.

    Attributes:
        num_requests: how many requests were sent.
        seconds: how long the measurement took.
        was_cut: the time was up before every designed load had been sent.
    """

    profile: Profile
    fit: Fit
    checks: tuple[Check, ...]
    num_requests: int
    seconds: float
    was_cut: bool


class Measurement:
    """Sends loads to a server until the time is up, and fits its costs to what was seen.

    Args:
        config: the options of the simulated runs that stand for the server.
        as_profile: makes a profile of a fit.
        duration: approximate seconds.
        tell: is called with a description of what is being done.
    """

    def __init__(
        self,
        send: Send,
        limits: Limits,
        config: RunConfig,
        as_profile: AsProfile,
        duration: float,
        tell: Callable[[str], None],
    ) -> None:
        self._send, self._limits, self._config, self._as_profile = send, limits, config, as_profile
        self._duration, self._tell = duration, tell
        self._sent: list[SentLoad] = []

    def run(self) -> Measured:
        """Measure the server.

        Raises:
            ConfigError: too many requests failed, or its replies do not show its iterations.
        """
        seed = self._config.seed % NUM_SEEDS * MOST_ROUNDS
        self._add(probe(self._limits, seed))
        was_cut = not self._round(seed + 1, DESIGNED_SHARE * self._duration)
        first_round = self._seconds
        checks = tuple(self._at_rate(share, seed + RANDOM_SEED + i) for i, share in enumerate(SHARES))
        for number in count(2):
            if self._seconds + first_round > self._duration:
                break
            self._round(seed + number, self._duration)
        fit, profile = self._fit()
        return Measured(
            profile=profile,
            fit=fit,
            checks=checks,
            num_requests=sum(len(sent.trace.requests) for sent in self._sent),
            seconds=self._seconds,
            was_cut=was_cut,
        )

    @property
    def _seconds(self) -> float:
        return sum(sent.seconds for sent in self._sent)

    def _add(self, trace: Trace) -> SentLoad:
        self._tell(f"{trace.name}: {len(trace.requests)} requests")
        sent = SentLoad(trace, tuple(self._send(trace)))
        refuse_unusable(sent)
        self._sent.append(sent)
        return sent

    def _round(self, seed: int, until: float) -> bool:
        """Send the designed loads; False: the time was up before the last."""
        for trace in designed_loads(self._limits, seed):
            if self._seconds > until:
                return False
            self._add(trace)
        return True

    def _at_rate(self, share: float, seed: int) -> Check:
        """Send requests of ShareGPT's lengths at a share of the rate that the server sustains.

        The previous fit predicts them; then they become part of the fit themselves.
        """
        plan = self._plan(self._fit()[1])
        plan = replace(plan, config=replace(plan.config, seed=seed))
        backlog = _requests(plan, float("inf"), num_requests=NUM_BACKLOGGED)
        rate = share * _numbers(summarize(_run(plan, backlog)))["request_throughput"]
        number = max(round(rate * RANDOM_SHARE * self._duration), 4)
        trace = _requests(plan, rate, num_requests=number)
        return _check(share, self._add(replace(trace, name=f"{rate:.3g} requests/s")), plan)

    def _fit(self) -> tuple[Fit, Profile]:
        seen = [iterations_of(sent.trace.requests, sent.observations, self._limits) for sent in self._sent]
        number = sum(map(len, seen))
        if number < LEAST_ITERATIONS:
            raise ConfigError(
                f"only {number} iterations of the server could be recognized, too few for a fit: give a "
                "longer --duration; and see that nothing between here and the server holds tokens back"
            )
        fit = fit_twin([own for own in seen if own], self._config.seed)
        return fit, self._as_profile(fit, sum(len(sent.trace.requests) for sent in self._sent))

    def _plan(self, profile: Profile) -> Plan:
        return plan_on(profile, self._config, Path("the twin"))


def _requests(plan: Plan, rate: float, num_requests: int) -> Trace:
    config = replace(plan.config, trace="sharegpt", rate=rate, num_requests=num_requests, duration=None)
    return trace_of(replace(plan, config=config), load_dataset("sharegpt"))


def _run(plan: Plan, trace: Trace) -> RunRecord:
    """Run a load on the twin."""
    assert plan.twin is not None, "a plan on a twin"
    engine = SimulatedBackend().make_engine(plan, requests=trace.requests)
    return as_client(engine.run, trace, plan.twin.delay)


def _check(share: float, sent: SentLoad, plan: Plan) -> Check:
    record = record_of(
        sent.trace.requests,
        sent.observations,
        np.zeros(len(sent.observations)),
        forces_lengths=True,
        takes_token_ids=True,
        certified=None,
        was_stopped=False,
    )
    predicted_record = _run(plan, sent.served)
    prediction = predict(plan, sent.served, predicted_record)
    assert prediction is not None, "a whole run on a twin"
    measured, predicted = _numbers(summarize(record)), _numbers(summarize(predicted_record))
    values = {
        name: Compared(measured[name], predicted[name], *prediction.intervals[name])
        for name in METRICS
        if name in measured and name in predicted
    }
    return Check(share, sent.trace.realised_rate, values)


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
