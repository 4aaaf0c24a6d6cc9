"""Use of the KV pool: averages over time and over iterations, in percent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.weighted_sum import weighted_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.metrics.records import RunRecord

PARTS = ("token_states", "reserved", "internal", "external", "free")
"""The parts of the pool, by the `kv_*` columns of the steps."""

EXTERNAL_PARTS = ("rounding", "unusable")
"""The parts of external fragmentation."""


def mean_over_time(record: RunRecord, part: str) -> float | None:
    """Percent of the pool, from time 0 to the end of the last iteration.

    Iterations are weighted by duration; between iterations only pinned prefixes use the pool.
    """
    if not len(record.steps):
        return None
    duration, total = _durations(record), float(record.steps.end[-1])
    if total <= 0:
        return None
    slot_seconds = weighted_sum(duration, record.steps[f"kv_{part}"])
    idle = {"free": record.capacity - record.num_pinned, "token_states": record.num_pinned}
    slot_seconds += idle.get(part, 0) * (total - float(duration.sum()))
    return 100 * slot_seconds / (record.capacity * total)


def mean_over_iterations(record: RunRecord, part: str) -> float | None:
    """Percent of the pool, with equal weights of iterations (the paper's Fig. 2)."""
    if not len(record.steps):
        return None
    return 100 * float(record.steps[f"kv_{part}"].mean()) / record.capacity


def shared_saving_over_time(record: RunRecord) -> float | None:
    """Percent of the logical slots that sharing saves: `1 - physical / logical`, weighted by duration."""
    physical, logical = _held(record)
    weight = np.where(logical > 0, _durations(record), 0.0)
    if not weight.sum() > 0:
        return None
    saved = 1 - physical / np.maximum(logical, 1)
    return 100 * weighted_sum(weight, saved) / float(weight.sum())


def shared_saving_over_iterations(record: RunRecord) -> float | None:
    """The paper's form (Fig. 15), in percent: one less the inverse of the mean `logical / physical`."""
    physical, logical = _held(record)
    in_use = physical > 0
    if not in_use.any():
        return None
    return 100 * (1 - 1 / float((logical[in_use] / physical[in_use]).mean()))


def _held(record: RunRecord) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Slots in use, and slots that would be in use without sharing.  # both [num_steps]"""
    steps = record.steps
    physical = record.capacity - steps["kv_free"] - steps["kv_unusable"]
    return physical, physical + steps["kv_shared"]


def _durations(record: RunRecord) -> NDArray[np.float64]:
    return record.steps.end - record.steps.start
