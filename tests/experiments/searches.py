"""Searches of OPT-13B on a simulated A100-40GB, over few requests."""

from __future__ import annotations

from pagedbench.config import RunConfig
from pagedbench.experiments.capacity import Search
from pagedbench.experiments.criterion import NORMALIZED, Criterion
from pagedbench.metrics.slo import Slo
from pagedbench.plan import make_plan
from pagedbench.workload.dataset import load_dataset


def bounded(*limits: float) -> tuple[Criterion, ...]:
    """Bounds on the mean normalized latency, in s/token."""
    return tuple(Criterion(Slo(((NORMALIZED, limit),))) for limit in limits)


def make_search(
    system: str = "paged", criteria: tuple[Criterion, ...] | None = None, **options: object
) -> Search:
    """200 s of arrivals, unless `options` of RunConfig say otherwise."""
    config = RunConfig(
        system=system,
        model="opt-13b",
        device="sim:a100-40gb",
        **{"duration": 200.0, **options},
    )
    return Search(make_plan(config), load_dataset("sharegpt"), criteria or bounded(0.3), 0.05, 2.0)
