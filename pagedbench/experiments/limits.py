"""What limits a rate: why the head of the queue had to wait, iteration by iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.scheduling.request_level import RequestLevel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.engine import Engine
    from pagedbench.execution.executor import Executor, Samples
    from pagedbench.metrics.records import RunRecord
    from pagedbench.scheduling.batch import Batch

NOBODY, MEMORY, SEQUENCES, TOKENS, CLOSED = "nobody", "memory", "sequences", "tokens", "closed"
"""Why the head of the queue did not start in an iteration; `nobody`: no one waited."""

WASTE = ("reserved", "internal", "external")
"""Parts of the pool that hold no token."""

QUEUEING_SHARE = 0.1
"""Of the time of all requests: if less of it is spent in the queue, no resource is short."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What held requests back.

    Attributes:
        kind: "pool" (it is full of tokens in use), "fragmentation" (more of it is lost or reserved than
            used), "batch" (a limit on sequences or tokens, or a closed batch) or "compute" (hardly anybody
            waits: iterations take too long).
        detail: the figures behind it, in a phrase.
    """

    kind: str
    detail: str


class QueueWatch:
    """Stands before an engine's executor, and notes for every iteration why the queue's head waits."""

    def __init__(self, engine: Engine) -> None:
        self.reasons: list[str] = []  # one an iteration
        self._scheduler = engine.scheduler
        self._limits = engine.scheduler.limits
        self._is_closed = isinstance(engine.scheduler, RequestLevel)
        self._executor: Executor = engine.executor
        engine.executor = self

    def execute(self, batch: Batch) -> Samples:
        self.reasons.append(self._reason(batch))
        return self._executor.execute(batch)

    def _reason(self, batch: Batch) -> str:
        if batch.head_refused or batch.num_swapped or batch.preempted or batch.swapped_out:
            return MEMORY
        if not batch.num_waiting:
            return NOBODY
        if self._is_closed:
            return CLOSED
        head = self._scheduler.waiting[0]
        is_full = self._scheduler.num_sequences + head.num_sequences > self._limits.max_num_seqs
        return SEQUENCES if is_full else TOKENS


def find_limit(record: RunRecord, reasons: list[str]) -> Limit:
    """For what requests waited longest, while others still arrived.

    Args:
        reasons: of `QueueWatch`, one an iteration of the record.
    """
    num_steps = int(np.searchsorted(record.steps.start, record.last_arrival, side="right"))
    duration = (record.steps.end - record.steps.start)[:num_steps]
    waited = duration * record.steps["waiting"][:num_steps]  # seconds, of all that wait  # [num_steps]
    spent = float(waited.sum() + duration @ record.steps["running"][:num_steps])
    if not waited.sum() > QUEUEING_SHARE * spent:
        return Limit("compute", "hardly anybody waits: iterations take too long")
    names = np.array(reasons[:num_steps])
    seconds = {name: float(waited[names == name].sum()) for name in (MEMORY, SEQUENCES, TOKENS, CLOSED)}
    reason = max(seconds, key=lambda name: seconds[name])
    share = f"{100 * seconds[reason] / float(waited.sum()):.0f} % of the time in the queue"
    if reason == CLOSED:
        return Limit("batch", f"{share} is for a closed batch")
    if reason != MEMORY:
        option = "--max-num-seqs" if reason == SEQUENCES else "--max-num-batched-tokens"
        return Limit("batch", f"{share} is for {option}")
    return _of_memory(record, names == MEMORY, share)


def _of_memory(record: RunRecord, held: NDArray[np.bool_], share: str) -> Limit:
    """Is the pool full of tokens, or is more of it lost? `held`: iterations whose head memory refused."""

    def percent(part: str) -> float:
        return 100 * float(record.steps[f"kv_{part}"][: len(held)][held].mean()) / record.capacity

    used, lost = percent("token_states"), {part: percent(part) for part in WASTE}
    words = f"{share} is for memory, of which tokens in use fill {used:.0f} %"
    if used >= sum(lost.values()):
        return Limit("pool", words)
    parts = ", ".join(f"{lost[name]:.0f} % {name}" for name in sorted(lost, key=lambda name: -lost[name]))
    return Limit("fragmentation", f"{words}; {parts}")
