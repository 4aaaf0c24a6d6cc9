"""What sharing saves of the blocks: the formula and the set-up that Figs. 15a and 15b have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.paper.experiment import Experiment

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord

ALPACA = Experiment(
    model="opt-13b",
    device="sim:a100-40gb",
    rate=20.0,
    duration=900.0,
    window=(300.0, 900.0),
    systems=("paged",),
)


def saving(experiment: Experiment, record: RunRecord) -> float:
    """Percent of the blocks: 1 - 1 / mean over iterations of logical / physical (`plot/plot_fig15.py`)."""
    inside = experiment.in_window(record)
    physical = record.capacity - record.steps["kv_free"][inside]
    shared = record.steps["kv_shared"][inside]
    return 100.0 * (1.0 - 1.0 / float((1.0 + shared / physical).mean()))
