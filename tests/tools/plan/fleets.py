"""Small fleets of OPT-13B on simulated A100s."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pagedbench.config import RunConfig
from pagedbench.fleet.disaggregation import Link
from pagedbench.fleet.loop import Fleet
from pagedbench.plan import make_plan
from pagedbench.runs.traces import trace_of
from pagedbench.tools.plan.simulation import Ratio, Setup, simulate
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from pagedbench.fleet.autoscaling import Autoscaler
    from pagedbench.runs.criterion import Criterion
    from pagedbench.tools.plan.fleet_record import FleetRecord

FAST_LINK = Link(50e9, 1e-3)


def make_setup(
    router: str = "round-robin",
    *,
    staleness: float = 0.0,
    ratio: Ratio | None = None,
    autoscaler: Autoscaler | None = None,
    **options: object,
) -> Setup:
    """Thirty seconds of arrivals at 6 requests/s, unless `options` say otherwise."""
    given = {"model": "opt-13b", "device": "sim:a100-40gb", "rate": 6.0, "duration": 30.0, **options}
    plan = make_plan(RunConfig(**given))  # type: ignore[arg-type]
    trace = trace_of(plan, load_dataset(plan.config.trace, None))
    return Setup(plan, trace, router, staleness, ratio, FAST_LINK if ratio else None, autoscaler)


def make_fleet(setup: Setup, num_replicas: int) -> Fleet:
    """A fleet in one virtual time, whether its replicas depend on each other or not."""
    return Fleet(
        setup.make_engine,
        setup.make_router(),
        setup.surroundings,
        num_replicas=num_replicas,
        staleness=setup.staleness,
        autoscaler=setup.autoscaler,
        is_open=setup.is_open,
    )


def simulated(setup: Setup, size: int, criterion: Criterion | None = None, **options: bool) -> FleetRecord:
    return simulate(setup, size, criterion, threading.Event(), **options)
