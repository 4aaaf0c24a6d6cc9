"""Measures the costs of a machine: made-up batches in turns, all at one pace of its memory."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import median, median_low
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.runs.memory_pace import wait_for
from pagedbench.runs.pace import alike, format_pace, usual_pace
from pagedbench.tools.calibrate.calibration import LoopTime
from pagedbench.tools.calibrate.made_up_batches import FIT_CASES, HELD_OUT_CASES, MadeUpBatches
from pagedbench.tools.calibrate.report import UsualPace
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.backend import ModelBackend
    from pagedbench.engine import Engine
    from pagedbench.execution.model_runner import ModelExecutor
    from pagedbench.plan import Plan
    from pagedbench.runs.memory_pace import PaceMeter
    from pagedbench.runs.pace import Pace
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import Executor, Samples
    from pagedbench.tools.calibrate.calibration import Timed
    from pagedbench.tools.calibrate.made_up_batches import Case

MOST_STEPS_A_VISIT = 4
LEAST_CASES = 6
"""Held out; with so many, the fit has at least twice as many."""

EXTRA_ROUNDS = 1
"""At most, as a multiple of the rounds."""

PATIENCE_S = 60.0
"""Spent waiting for the usual pace, in all."""

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
class Measured:
    """What a machine was seen to take.

    Attributes:
        seen, unseen: batches to be fitted, and those that are held out.
        loop: what an engine adds.
        spread: how much slower a batch's slowest visit was than its fastest, the median over batches.
        pace: of the memory; what was timed at another one does not count.
    """

    seen: tuple[Timed, ...]
    unseen: tuple[Timed, ...]
    loop: tuple[LoopTime, ...]
    spread: float
    pace: UsualPace


def measure(
    plan: Plan, backend: ModelBackend, rounds: int, meter: PaceMeter, tell: Callable[[str], None]
) -> Measured:
    """Every case in every round, in another order each: a slow minute or second hurts no kind of case.

    Of each case the median counts, of what was timed at the memory's usual pace. Cases that were seen too
    seldom at that pace are visited again while the memory has it.
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
    usual = usual_pace([pace for visit in visits for pace in visit.paces])
    at_usual = sum(visit.is_at(usual) for visit in visits)
    _visit_again(runs, usual, rounds, meter, tell)
    paces = [pace for visit in visits for pace in visit.paces if pace is not None]
    return Measured(
        seen=tuple(run.result(usual) for run in runs if not run.case.is_held_out),
        unseen=tuple(run.result(usual) for run in runs if run.case.is_held_out),
        loop=tuple(loop),
        spread=median(run.spread(usual) for run in runs),
        pace=UsualPace(
            usual=usual,
            slowest=min(paces, default=None),
            fastest=max(paces, default=None),
            share=at_usual / len(visits),
            num_others=sum(not run.num_at(usual) for run in runs),
        ),
    )


def _visit_again(
    runs: list[_Run], usual: Pace | None, rounds: int, meter: PaceMeter, tell: Callable[[str], None]
) -> None:
    """More visits of the cases that had fewer than half their rounds at the usual pace, in turns."""
    patience, wanted = PATIENCE_S, (rounds + 1) // 2
    for _ in range(EXTRA_ROUNDS * rounds):
        few = [run for run in runs if run.num_at(usual) < wanted]
        for place, run in enumerate(few, start=1):
            tell(f"memory is read at {format_pace(usual)} most often: batch {place} of {len(few)} again")
            patience -= wait_for(meter, usual, patience)
            if patience <= 0:
                return
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
    """Some iterations of a case, and the pace of the memory before and after them."""

    timed: tuple[Timed, ...]
    paces: tuple[Pace | None, Pace | None]

    def is_at(self, pace: Pace | None) -> bool:
        """From beginning to end."""
        return all(alike(own, pace) for own in self.paces)


class _Run:
    """One case: its batches, its runner, and what was timed."""

    def __init__(self, case: Case, plan: Plan, backend: ModelBackend, rounds: int) -> None:
        self.case = case
        self._batches = MadeUpBatches(case, plan.kv_slots, plan.config.block_size, _num_steps(rounds))
        self._executor = self._executor_of(backend)
        self.visits: list[Visit] = []

    def _executor_of(self, backend: ModelBackend) -> ModelExecutor:
        from pagedbench.execution.model_runner import ModelExecutor

        model, memory = backend.loaded.model, self._batches.memory
        return ModelExecutor.in_process(model, backend.cache, memory, backend.ops)

    def visit(self, meter: PaceMeter) -> None:
        before = meter.read()
        timed = tuple(self._batches.visit(self._executor))
        self.visits.append(Visit(timed, (before, meter.read())))

    def num_at(self, pace: Pace | None) -> int:
        """Visits at the pace."""
        return sum(visit.is_at(pace) for visit in self.visits)

    def result(self, pace: Pace | None) -> Timed:
        """The middle one at the pace; of all, if the pace was never met."""
        timed = [item for visit in self._at(pace) for item in visit.timed]
        seconds = median_low(item.seconds for item in timed)
        return next(item for item in timed if item.seconds == seconds)

    def spread(self, pace: Pace | None) -> float:
        """Of the visits' medians: the largest over the smallest, less 1."""
        medians = [median(item.seconds for item in visit.timed) for visit in self._at(pace)]
        return max(medians) / min(medians) - 1

    def _at(self, pace: Pace | None) -> list[Visit]:
        return [visit for visit in self.visits if visit.is_at(pace)] or self.visits
