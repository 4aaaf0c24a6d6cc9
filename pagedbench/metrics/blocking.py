"""How long requests waited in the queue, by what kept its head out of the iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pagedbench.request import Status
from pagedbench.scheduling.batch import BlockedBy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.metrics.records import RunRecord

OPTIONS = {
    BlockedBy.SEQUENCES: "--max-num-seqs",
    BlockedBy.TOKENS: "--max-num-batched-tokens",
}
"""Limits of an iteration, and the options that set them."""


def seconds_waited(record: RunRecord) -> dict[BlockedBy, float]:
    """Seconds that requests spent in the queue, summed over requests, by the reason of its head."""
    steps = record.steps
    waited = (steps.end - steps.start) * steps["waiting"]  # [num_steps]
    return {kind: float(waited[steps["blocked_by"] == kind].sum()) for kind in BlockedBy if kind}


def is_held_by_memory(record: RunRecord) -> NDArray[np.bool_]:
    """The iterations in which memory kept the head of the queue out.  # [num_steps]"""
    return np.isin(record.steps["blocked_by"], [kind for kind in BlockedBy if kind.is_memory])


def has_filled(record: RunRecord) -> bool:
    """Did memory keep any request waiting, preempt one, or refuse one for good?"""
    is_refused = any(item.status is Status.FAILED for item in record.requests)
    return is_refused or bool(record.preemptions) or bool(is_held_by_memory(record).any())
