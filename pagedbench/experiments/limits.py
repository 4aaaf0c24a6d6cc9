"""What limits a rate: why the head of the queue had to wait, iteration by iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.blocking import OPTIONS, is_held_by_memory, seconds_waited

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.metrics.records import RunRecord

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


def find_limit(record: RunRecord) -> Limit:
    """For what requests waited longest, while others still arrived."""
    steps = record.steps
    num_steps = int(np.searchsorted(steps.start, record.last_arrival, side="right"))
    waited = seconds_waited(record, num_steps)
    queued = sum(waited.values())
    spent = queued + float((steps.end - steps.start)[:num_steps] @ steps["running"][:num_steps])
    if not queued > QUEUEING_SHARE * spent:
        return Limit("compute", "hardly anybody waits: iterations take too long")
    memory = sum(seconds for kind, seconds in waited.items() if kind.is_memory)
    reason = max(waited, key=lambda kind: waited[kind])
    if memory >= waited[reason]:
        return _of_memory(record, is_held_by_memory(record)[:num_steps], _share(memory, queued))
    share = _share(waited[reason], queued)
    if reason in OPTIONS:
        return Limit("batch", f"{share} is for {OPTIONS[reason]}")
    return Limit("batch", f"{share} is for a closed batch")


def _share(seconds: float, queued: float) -> str:
    return f"{100 * seconds / queued:.0f} % of the time in the queue"


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
