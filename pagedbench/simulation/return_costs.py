"""SimulatedCosts: the cost of a preempted group's return, by a cost model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.memory.moves import Copy, Pool
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, SequenceGroup
from pagedbench.scheduling.batch import Batch, Prefill

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.simulation.cost_model import StepTimes


class SimulatedCosts:
    """Differences between step times of single iterations, so that fixed costs of a step cancel."""

    def __init__(self, step_times: StepTimes, block_size: int) -> None:
        self._step_times = step_times
        self._block_size = block_size
        self._sequence = SequenceGroup(Request(0, 0.0, Prompt(1, seed=0), SamplingParams(1)), 0).sequences[
            0
        ]
        self._least = self._time([Prefill(self._sequence, 0, 1, ())])
        self._idle = self._time()
        self._recompute_times: dict[int, float] = {}
        self._swap_times: dict[int, float] = {}

    def recompute_time(self, num_tokens: int) -> float:
        known = self._recompute_times.get(num_tokens)
        if known is None:
            part = Prefill(self._sequence, 0, max(num_tokens, 1), ())
            known = self._recompute_times[num_tokens] = self._time([part]) - self._least
        return known

    def swap_time(self, num_slots: int) -> float:
        num_blocks = -(-num_slots // self._block_size)
        known = self._swap_times.get(num_blocks)
        if known is None:
            move = Copy(0, 0, self._block_size, Pool.DEVICE, Pool.HOST)
            known = 2 * (self._time(moves=[move] * num_blocks) - self._idle)
            self._swap_times[num_blocks] = known
        return known

    def _time(self, prefills: Items[Prefill] = (), moves: Items[Copy] = ()) -> float:
        batch = Batch(0, list(prefills), num_running=1, swap_outs=list(moves))
        return self._step_times.step_time(batch)
