"""Measures the costs of a machine: made-up batches in turns, a fit, and a replayed run to judge it by."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from statistics import median, median_low
from typing import TYPE_CHECKING

from pagedbench.backend import SimulatedBackend
from pagedbench.config import ConfigError
from pagedbench.execution.costs.calibration import LoopTime
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
    from pagedbench.engine import Engine
    from pagedbench.execution.costs.calibration import Timed
    from pagedbench.execution.costs.profile import Profile
    from pagedbench.execution.executor import Executor, Samples
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

LOOP_REQUESTS, LOOP_PROMPT_LEN, LOOP_OUTPUT_STEP = 24, 16, 5

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


@dataclass(frozen=True, slots=True)
class Measured:
    """What a machine was seen to take.

    Attributes:
        seen, unseen: batches to be fitted, and those that are held out.
        loop: what an engine adds.
        spread: how much slower a batch's slowest round was than its fastest, the median over batches.
    """

    seen: tuple[Timed, ...]
    unseen: tuple[Timed, ...]
    loop: tuple[LoopTime, ...]
    spread: float


def measure(plan: Plan, backend: ModelBackend, rounds: int, tell: Callable[[str], None]) -> Measured:
    """Every case in every round, in another order each: a slow minute or second hurts no kind of case.

    Of each case the median counts.
    """
    _fill_pool(backend)
    cases = cases_for(plan, rounds)
    runs, loop = [_Run(case, plan, backend, rounds) for case in cases], list[LoopTime]()
    for number in range(rounds):
        order = random.Random(number).sample(runs, len(runs))
        for place, run in enumerate(order, start=1):
            tell(f"round {number + 1} of {rounds}: batch {place} of {len(runs)}")
            run.visit()
        loop += loop_times(plan, backend)
    return Measured(
        seen=tuple(run.result() for run in runs if not run.case.is_held_out),
        unseen=tuple(run.result() for run in runs if run.case.is_held_out),
        loop=tuple(loop),
        spread=median(run.spread for run in runs),
    )


class LoopWatch:
    """Stands before an engine's executor, and notes what passes between two executions."""

    def __init__(self, engine: Engine) -> None:
        self.times: list[LoopTime] = []
        self._clock = engine.clock
        self._executor: Executor = engine.executor
        self._ended: float | None = None
        self._decodes = 0
        engine.executor = self

    def execute(self, batch: Batch) -> Samples:
        start = self._clock.now
        if self._ended is not None:
            self.times.append(LoopTime(self._decodes, start - self._ended))
        samples = self._executor.execute(batch)
        self._ended, self._decodes = self._clock.now, len(batch.decodes)
        return samples


def loop_times(plan: Plan, backend: ModelBackend) -> list[LoopTime]:
    """Of a whole engine whose requests end one after another, without the iteration of their prompts."""
    requests = [
        Request(i, 0.0, Prompt(LOOP_PROMPT_LEN, seed=i), SamplingParams(LOOP_OUTPUT_STEP * (i + 1)))
        for i in range(LOOP_REQUESTS)
    ]
    engine = backend.make_engine(plan)
    watch = LoopWatch(engine)
    engine.run(FixedArrivals(requests))
    return [item for item in watch.times if item.sequences]


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
        self._rounds: list[list[Timed]] = []

    def _runner_of(self, backend: ModelBackend) -> ModelRunner:
        from pagedbench.execution.model_runner import ModelRunner

        return ModelRunner(backend.loaded.model, backend.cache, self._batches.memory, backend.ops)

    def visit(self) -> None:
        self._rounds.append(self._batches.visit(self._runner))

    def result(self) -> Timed:
        timed = [item for visit in self._rounds for item in visit]
        seconds = median_low(item.seconds for item in timed)
        return next(item for item in timed if item.seconds == seconds)

    @property
    def spread(self) -> float:
        """Of the rounds' medians: the largest over the smallest, less 1."""
        medians = [median(item.seconds for item in visit) for visit in self._rounds]
        return max(medians) / min(medians) - 1


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
