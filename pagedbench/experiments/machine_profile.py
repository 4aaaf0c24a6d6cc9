"""Measures the costs of a machine: made-up batches in turns, a fit, and a replayed run to judge it by."""

from __future__ import annotations

from dataclasses import replace
from statistics import median_low
from typing import TYPE_CHECKING

from pagedbench.backend import SimulatedBackend
from pagedbench.clock import WallClock
from pagedbench.config import ConfigError
from pagedbench.execution.costs.calibration import Timed, load_of
from pagedbench.experiments.made_up_batches import FIT_CASES, HELD_OUT_CASES, MadeUpBatches
from pagedbench.metrics.formulas import summarize
from pagedbench.report.calibration import Replay
from pagedbench.request import Prompt, Request, SamplingParams
from pagedbench.workload.arrivals import FixedArrivals
from pagedbench.workload.dataset import load_dataset
from pagedbench.workload.prompts import SharedPrefixes
from pagedbench.workload.trace import build_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pagedbench.backend import ModelBackend
    from pagedbench.execution.costs.profile import Profile
    from pagedbench.execution.model_runner import ModelRunner
    from pagedbench.experiments.made_up_batches import Case
    from pagedbench.plan import Plan
    from pagedbench.scheduling.batch import Batch
    from pagedbench.workload.trace import Trace

MOST_STEPS_A_VISIT = 4
LEAST_CASES = 6
"""Held out; with so many, the fit has at least twice as many."""

REPLAY_RATES = {"half": 0.5, "full": 1.0, "double": 2.0}
"""Of the rate that the machine sustains, as its profile says."""

LOOP_RUNS, LOOP_REQUESTS, LOOP_PROMPT_LEN, LOOP_OUTPUT_STEP = 2, 24, 16, 5

REPLAYED = ("normalized_latency_mean_s", "request_throughput", "tpot_p50_ms")
KV_PARTS = ("token_states", "reserved", "internal", "external", "free")


def cases_for(plan: Plan, rounds: int) -> list[Case]:
    """The cases that fit the plan's pool, model and limits.

    Raises:
        ConfigError: they are too few.
    """
    block_size, num_steps = plan.config.block_size, _num_steps(rounds)
    longest, most = plan.config.max_model_len or 0, plan.config.max_num_seqs
    cases = [
        case
        for case in (*FIT_CASES, *HELD_OUT_CASES)
        if case.num_slots(block_size, num_steps) <= 0.95 * plan.kv_slots
        and max((*case.prompts, case.context)) + num_steps + 1 <= longest
        and case.decodes + len(case.prompts) <= most
        and case.decodes + sum(case.prompts) <= plan.config.max_num_batched_tokens
    ]
    if sum(case.is_held_out for case in cases) < LEAST_CASES:
        raise ConfigError(
            f"a pool of {plan.kv_slots:,} slots and requests of up to {longest:,} tokens leave too few "
            f"batches for {rounds} rounds: enlarge --kv-slots, or take fewer --rounds"
        )
    return cases


def _num_steps(rounds: int) -> int:
    return rounds * MOST_STEPS_A_VISIT


def measure(
    plan: Plan, backend: ModelBackend, rounds: int, tell: Callable[[str], None]
) -> tuple[list[Timed], list[Timed]]:
    """Every case in every round, so that a slow minute hurts all alike; of each the median.

    Returns:
        What is to be fitted, and what is held out.
    """
    _fill_pool(backend)
    cases = cases_for(plan, rounds)
    runs = [_Run(case, plan, backend, rounds) for case in cases]
    for number in range(rounds):
        for place, run in enumerate(runs, start=1):
            tell(f"round {number + 1} of {rounds}: batch {place} of {len(runs)}")
            run.visit()
    fit = [run.result() for run in runs if not run.case.is_held_out]
    return fit, [run.result() for run in runs if run.case.is_held_out]


class LoopClock(WallClock):
    """Notes what each iteration held, and the time since the one before: the engine's own is in it."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self._attention = attention
        self._last = 0.0
        self.iterations: list[Timed] = []

    def start(self) -> None:
        super().start()
        self._last = 0.0

    def tick(self, batch: Batch) -> None:
        now = self.now
        self.iterations.append(Timed(load_of(batch, self._attention), now - self._last))
        self._last = now


def loop_iterations(plan: Plan, backend: ModelBackend) -> list[Timed]:
    """Iterations of a whole engine whose requests end one after another."""
    clock = LoopClock(plan.system.attention)
    for _ in range(LOOP_RUNS):
        requests = [
            Request(i, 0.0, Prompt(LOOP_PROMPT_LEN, seed=i), SamplingParams(LOOP_OUTPUT_STEP * (i + 1)))
            for i in range(LOOP_REQUESTS)
        ]
        engine = backend.make_engine(plan)
        engine.clock = clock
        engine.run(FixedArrivals(requests))
    return clock.iterations


def _fill_pool(backend: ModelBackend) -> None:
    """Memory that was never written is not really read: the system has one page of zeros for all of it."""
    for tensor in backend.cache.tensors:
        tensor.fill_(0.5)


class _Run:
    """One case: its batches, its runner, and what was timed."""

    def __init__(self, case: Case, plan: Plan, backend: ModelBackend, rounds: int) -> None:
        self.case = case
        self._batches = MadeUpBatches(case, plan.kv_slots, plan.config.block_size, _num_steps(rounds))
        self._runner = self._runner_of(backend)
        self._timed: list[Timed] = []

    def _runner_of(self, backend: ModelBackend) -> ModelRunner:
        from pagedbench.execution.model_runner import ModelRunner

        return ModelRunner(backend.loaded.model, backend.cache, self._batches.memory, backend.ops)

    def visit(self) -> None:
        self._timed += self._batches.visit(self._runner)

    def result(self) -> Timed:
        seconds = median_low(item.seconds for item in self._timed)
        return next(item for item in self._timed if item.seconds == seconds)


def replays(
    plan: Plan, backend: ModelBackend, profile: Profile, num_requests: int, tell: Callable[[str], None]
) -> Iterator[Replay]:
    """The same trace, really and in virtual time, at several loads; nothing without requests."""
    if not num_requests:
        return
    simulated = replace(plan, step_times=profile.costs(plan.system.attention), kernels="simulated")
    everything = _trace(plan, num_requests, float("inf"))
    sustained = summarize(SimulatedBackend().make_engine(simulated).run(everything.arrivals()))
    rate = sustained["request_throughput"]
    assert isinstance(rate, float), "the requests were completed"
    backend.warm_up(plan)
    for load, share in REPLAY_RATES.items():
        trace = _trace(plan, num_requests, rate * share)
        tell(f"replaying {num_requests} requests at {rate * share:.3g} requests/s")
        measured = summarize(backend.make_engine(plan).run(trace.arrivals()))
        expected = summarize(SimulatedBackend().make_engine(simulated).run(trace.arrivals()))
        values = {name: (_float(measured[name]), _float(expected[name])) for name in REPLAYED}
        parts = (f"kv_{part}_pct" for part in KV_PARTS)
        points = max(abs(_float(measured[part]) - _float(expected[part])) for part in parts)
        yield Replay(load, rate * share, values, points)


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
        decoding=SamplingParams(output_len=0),
        shared=SharedPrefixes(0, 1, plan.shape.vocab_size),
        seed=config.seed,
    )
