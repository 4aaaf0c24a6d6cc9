"""What the paper averages over the iterations of a window: batch sizes, parts of the pool, savings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord
    from pagedbench.tools.paper.experiment import Experiment
    from pagedbench.tools.paper.lengths import Lengths

PARTS = ("token states", "reserved", "internal", "external and others")


@dataclass(frozen=True, slots=True)
class Observation:
    """Means over the iterations that begin within the window.

    Attributes:
        running: requests in an iteration.
        shares: of the pool in percent, by `PARTS`.
        saving: blocks saved by sharing in percent: 1 - 1 / mean of logical / physical
            (`plot/plot_fig15.py`).
    """

    running: float
    shares: dict[str, float]
    saving: float


def observe(experiment: Experiment, system: str, lengths: Lengths, seed: int) -> Observation:
    """Run a system, and average."""
    return observation(experiment, experiment.run(system, lengths, seed))


def observation(experiment: Experiment, record: RunRecord) -> Observation:
    """The averages of a run."""
    start, end = experiment.window
    steps = record.steps
    inside = (steps.start >= start) & (steps.start <= end)

    def percent(*columns: str) -> float:
        total = sum(float(steps[column][inside].mean()) for column in columns)
        return 100.0 * total / record.capacity

    physical = record.capacity - steps["kv_free"][inside]
    ratio = float((1.0 + steps["kv_shared"][inside] / physical).mean())
    return Observation(
        running=float(steps["running"][inside].mean()),
        shares={
            "token states": percent("kv_token_states"),
            "reserved": percent("kv_reserved"),
            "internal": percent("kv_internal"),
            "external and others": percent("kv_external", "kv_free"),
        },
        saving=100.0 * (1.0 - 1.0 / ratio),
    )
