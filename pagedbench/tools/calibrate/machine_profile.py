"""Measures the costs of a machine: made-up batches in turns, all at one memory bandwidth."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import median, median_low
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.runs.memory_bandwidth import is_same, usual_bandwidth
from pagedbench.tools.calibrate.calibration import LoopTime
from pagedbench.tools.calibrate.made_up_batches import FIT_CASES, HELD_OUT_CASES, MadeUpBatches
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.backend import ModelBackend
    from pagedbench.engine import Engine
    from pagedbench.execution.model_runner import ModelRunner
    from pagedbench.plan import Plan
    from pagedbench.runs.memory_bandwidth import BandwidthMeter
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import Executor, Samples
    from pagedbench.tools.calibrate.calibration import Timed
    from pagedbench.tools.calibrate.made_up_batches import Case

MOST_STEPS_A_VISIT = 4
LEAST_CASES = 6
"""Held out; with so many, the fit has at least twice as many."""

EXTRA_ROUNDS = 1
"""At most, as a multiple of the rounds."""

LOOP_REQUESTS, LOOP_PROMPT_LEN, LOOP_OUTPUT_STEP = 24, 16, 5


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
    return (1 + EXTRA_ROUNDS) * rounds * MOST_STEPS_A_VISIT


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """The memory bandwidth while batches were timed, in bytes per second; None where it was not read.

    Attributes:
        usual: the most frequent one.
        slowest, fastest: of all visits.
        share: of the visits in the rounds that had the usual bandwidth from beginning to end.
    """

    usual: float | None
    slowest: float | None
    fastest: float | None
    share: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a machine was seen to take.

    Attributes:
        seen, unseen: batches to be fitted, and those that are held out.
        loop: what an engine adds.
        spread: how much slower a batch's slowest visit was than its fastest, the median over batches.
        bandwidth: of memory; what was timed at another one does not count.
    """

    seen: tuple[Timed, ...]
    unseen: tuple[Timed, ...]
    loop: tuple[LoopTime, ...]
    spread: float
    bandwidth: Bandwidth


def measure(
    plan: Plan, backend: ModelBackend, rounds: int, meter: BandwidthMeter, tell: Callable[[str], None]
) -> Measured:
    """Every case in every round, in another order each: a slow minute or second hurts no kind of case.

    Of each case the median of what was timed at the usual memory bandwidth counts. Cases that had it in
    fewer than half of their rounds are visited again.
    """
    _fill_pool(backend)
    cases = cases_for(plan, rounds)
    runs, loop = [_Run(case, plan, backend, rounds) for case in cases], list[LoopTime]()
    for number in range(rounds):
        order = random.Random(number).sample(runs, len(runs))
        for place, run in enumerate(order, start=1):
            tell(f"round {number + 1} of {rounds}: batch {place} of {len(runs)}")
            run.visit(meter)
        loop += loop_times(plan, backend)
    visits = [visit for run in runs for visit in run.visits]
    readings = [reading for visit in visits for reading in visit.bandwidths if reading is not None]
    usual = usual_bandwidth(readings)
    at_usual = sum(visit.is_at(usual) for visit in visits)
    _visit_again(runs, usual, rounds, meter, tell)
    return Measured(
        seen=tuple(run.result(usual) for run in runs if not run.case.is_held_out),
        unseen=tuple(run.result(usual) for run in runs if run.case.is_held_out),
        loop=tuple(loop),
        spread=median(run.spread(usual) for run in runs),
        bandwidth=Bandwidth(
            usual=usual,
            slowest=min(readings, default=None),
            fastest=max(readings, default=None),
            share=at_usual / len(visits),
        ),
    )


def _visit_again(
    runs: list[_Run], usual: float | None, rounds: int, meter: BandwidthMeter, tell: Callable[[str], None]
) -> None:
    """Visit the cases again, in turns, that had the usual bandwidth in fewer than half of their rounds."""
    for _ in range(EXTRA_ROUNDS * rounds):
        few = [run for run in runs if run.num_at(usual) < (rounds + 1) // 2]
        for place, run in enumerate(few, start=1):
            tell(f"memory bandwidth varied: batch {place} of {len(few)} again")
            run.visit(meter)


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


@dataclass(frozen=True, slots=True)
class Visit:
    """Some iterations of a case, and the memory bandwidth before and after them."""

    timed: tuple[Timed, ...]
    bandwidths: tuple[float | None, float | None]

    def is_at(self, bandwidth: float | None) -> bool:
        """Was it this bandwidth before and after?"""
        return all(is_same(own, bandwidth) for own in self.bandwidths)


class _Run:
    """One case: its batches, its runner, and what was timed."""

    def __init__(self, case: Case, plan: Plan, backend: ModelBackend, rounds: int) -> None:
        self.case = case
        self._batches = MadeUpBatches(case, plan.kv_slots, plan.config.block_size, _num_steps(rounds))
        self._runner = self._runner_of(backend)
        self.visits: list[Visit] = []

    def _runner_of(self, backend: ModelBackend) -> ModelRunner:
        from pagedbench.execution.model_runner import ModelRunner

        return ModelRunner(backend.loaded.model, backend.cache, self._batches.memory, backend.ops)

    def visit(self, meter: BandwidthMeter) -> None:
        before = meter.read()
        timed = tuple(self._batches.visit(self._runner))
        self.visits.append(Visit(timed, (before, meter.read())))

    def num_at(self, bandwidth: float | None) -> int:
        """How many visits had the bandwidth."""
        return sum(visit.is_at(bandwidth) for visit in self.visits)

    def result(self, bandwidth: float | None) -> Timed:
        """The middle one at the bandwidth; of all, if no visit had it."""
        timed = [item for visit in self._at(bandwidth) for item in visit.timed]
        seconds = median_low(item.seconds for item in timed)
        return next(item for item in timed if item.seconds == seconds)

    def spread(self, bandwidth: float | None) -> float:
        """Of the visits' medians: the largest over the smallest, less 1."""
        medians = [median(item.seconds for item in visit.timed) for visit in self._at(bandwidth)]
        return max(medians) / min(medians) - 1

    def _at(self, bandwidth: float | None) -> list[Visit]:
        return [visit for visit in self.visits if visit.is_at(bandwidth)] or self.visits
