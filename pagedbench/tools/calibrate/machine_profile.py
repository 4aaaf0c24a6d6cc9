"""Times synthetic batches on this machine, in turns, and measures what an engine's loop adds to them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.tools.calibrate.calibration import LoopTime
from pagedbench.tools.calibrate.synthetic_batches import (
    FIT_CASES,
    HELD_OUT_CASES,
    MAX_STEPS_PER_SAMPLE,
    SyntheticBatches,
)
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.backend import ModelBackend
    from pagedbench.engine import Engine
    from pagedbench.plan import Plan
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import Executor, Samples
    from pagedbench.tools.calibrate.calibration import Timed
    from pagedbench.tools.calibrate.synthetic_batches import Case

MIN_HELD_OUT = 6
"""The least number of held-out cases; with these, at least twice as many are fitted."""

LOOP_REQUESTS, LOOP_PROMPT_LEN, LOOP_OUTPUT_STEP = 24, 16, 5


def cases_for(plan: Plan, rounds: int) -> list[Case]:
    """The cases that fit the plan's pool, model and limits.

    Raises:
        ConfigError: they are too few.
    """
    block_size, num_steps = plan.config.block_size, rounds * MAX_STEPS_PER_SAMPLE
    longest, most = plan.config.max_model_len or 0, plan.config.max_num_seqs
    cases = [
        case
        for case in (*FIT_CASES, *HELD_OUT_CASES)
        if case.num_slots(block_size, num_steps) <= 0.95 * plan.kv_slots
        and max((*case.prompts, case.context)) + num_steps + 1 <= longest
        and case.decodes + len(case.prompts) <= most
        and case.decodes + sum(case.prompts) <= plan.config.max_num_batched_tokens
    ]
    if sum(case.is_held_out for case in cases) < MIN_HELD_OUT:
        raise ConfigError(
            f"a pool of {plan.kv_slots:,} slots and requests of up to {longest:,} tokens leave too few "
            f"batches for {rounds} rounds: enlarge --kv-slots, or take fewer --rounds"
        )
    return cases


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured on a machine.

    Attributes:
        fitted, held_out: the batches of the fit, and those that test it.
        loop: the time that an engine adds.
        spread: how much slower a case's slowest round was than its fastest, as a share; the median over
            cases.
    """

    fitted: tuple[Timed, ...]
    held_out: tuple[Timed, ...]
    loop: tuple[LoopTime, ...]
    spread: float


def measure(plan: Plan, backend: ModelBackend, rounds: int, tell: Callable[[str], None]) -> Measured:
    """Sample every case in every round, each round in another order, so that a slow second or minute does
    not hit one kind of case only. For each case, the median is used.

    Args:
        tell: is called with a description of what is being measured.
    """
    for tensor in backend.cache.tensors:
        tensor.fill_(0.5)  # unwritten pages all map to one page of zeros, which is always in a cache
    runs = [_CaseRun(case, plan, backend, rounds) for case in cases_for(plan, rounds)]
    loop: list[LoopTime] = []
    for number in range(rounds):
        order = random.Random(number).sample(runs, len(runs))
        for position, run in enumerate(order, start=1):
            tell(f"round {number + 1} of {rounds}: batch {position} of {len(runs)}")
            run.sample()
        loop += loop_times(plan, backend)
    return Measured(
        fitted=tuple(run.middle for run in runs if not run.case.is_held_out),
        held_out=tuple(run.middle for run in runs if run.case.is_held_out),
        loop=tuple(loop),
        spread=median(run.spread for run in runs),
    )


class _CaseRun:
    """One case: its batches, a runner for them, and the time of each round."""

    def __init__(self, case: Case, plan: Plan, backend: ModelBackend, rounds: int) -> None:
        from pagedbench.execution.model_runner import ModelExecutor

        self.case = case
        num_steps = rounds * MAX_STEPS_PER_SAMPLE
        self._batches = SyntheticBatches(case, plan.kv_slots, plan.config.block_size, num_steps)
        model, memory = backend.loaded.model, self._batches.memory
        self._executor = ModelExecutor.in_process(model, backend.cache, memory, backend.ops)
        self._rounds: list[list[Timed]] = []

    def sample(self) -> None:
        self._rounds.append(self._batches.sample(self._executor))

    @property
    def middle(self) -> Timed:
        """The median iteration; if there are two, the faster."""
        timed = sorted((item for timed in self._rounds for item in timed), key=lambda item: item.seconds)
        return timed[(len(timed) - 1) // 2]

    @property
    def spread(self) -> float:
        """The slowest round / the fastest - 1."""
        medians = [median(item.seconds for item in timed) for timed in self._rounds]
        return max(medians) / min(medians) - 1


class _LoopTimer:
    """Wraps an engine's executor and records the time between two executions."""

    def __init__(self, engine: Engine) -> None:
        self.times: list[LoopTime] = []
        self._clock = engine.clock
        self._executor: Executor = engine.executor
        self._last: tuple[float, int] | None = None  # when the last execution ended, and its decodes
        engine.executor = self

    def execute(self, batch: Batch) -> Samples:
        if self._last is not None:
            ended, num_decodes = self._last
            self.times.append(LoopTime(num_decodes, self._clock.now - ended))
        samples = self._executor.execute(batch)
        self._last = self._clock.now, len(batch.decodes)
        return samples


def loop_times(plan: Plan, backend: ModelBackend) -> list[LoopTime]:
    """Time the loop of an engine whose requests end one after another, without the iteration of prompts."""
    requests = [
        Request(i, 0.0, Prompt(LOOP_PROMPT_LEN, seed=i), SamplingParams(LOOP_OUTPUT_STEP * (i + 1)))
        for i in range(LOOP_REQUESTS)
    ]
    engine = backend.make_engine(plan)
    timer = _LoopTimer(engine)
    engine.run(FixedArrivals(requests))
    return [item for item in timer.times if item.sequences]
