"""Time in the queue, by the reason why the head of the queue was not admitted."""

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
    BlockedBy.ADMISSION: "--admission",
}
"""The options that keep a request waiting although memory has room."""

WAITS_FOR = {BlockedBy.POLICY: "the closed batch", BlockedBy.TRANSFER: "reads from the disk", **OPTIONS}
"""What the head of the queue waits for, if not for memory."""


def seconds_waited(record: RunRecord) -> dict[BlockedBy, float]:
    """Seconds in the queue, summed over requests, by the reason why its head waited."""
    steps = record.steps
    waited = (steps.end - steps.start) * steps["waiting"]  # [num_steps]
    return {kind: float(waited[steps["blocked_by"] == kind].sum()) for kind in BlockedBy if kind}


def is_held_by_memory(record: RunRecord) -> NDArray[np.bool_]:
    """Whether the head of the queue waited for memory in each iteration.  # [num_steps]"""
    return np.isin(record.steps["blocked_by"], [kind for kind in BlockedBy if kind.is_memory])


def has_filled(record: RunRecord) -> bool:
    """Whether memory made any request wait, preempted one, or was too small for one.

    Room that an admission policy keeps for running requests counts as taken.
    """
    is_refused = any(item.status is Status.FAILED for item in record.requests)
    is_kept = bool((record.steps["blocked_by"] == BlockedBy.ADMISSION).any())
    return is_refused or is_kept or bool(record.preemptions) or bool(is_held_by_memory(record).any())
