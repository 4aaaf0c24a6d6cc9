"""One run at one rate to its end: the points of figures that are not searched for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from pagedbench.tools.paper.experiment import Experiment
    from pagedbench.tools.paper.lengths import Lengths


def mean_latency(experiment: Experiment, system: str, lengths: Lengths, seed: int) -> float:
    """Mean normalized latency in s/token, over all requests."""
    requests = experiment.requests(lengths, seed)
    record = experiment.engine(system).run(FixedArrivals(requests))
    return float(record.latencies.normalized_latency.mean())
