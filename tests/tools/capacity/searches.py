"""Searches of OPT-13B on a simulated A100, over few requests."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pagedbench.config import RunConfig
from pagedbench.metrics.slo import Slo, parse_slo
from pagedbench.plan import make_plan
from pagedbench.runs.criterion import NORMALIZED, Criterion
from pagedbench.tools.capacity.probe import Probe, Search, run_probe
from pagedbench.tools.capacity.search import Found, search_capacity
from pagedbench.tools.capacity.serving import serving
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from pagedbench.workload.dataset import Dataset


def bounded(*limits: float) -> tuple[Criterion, ...]:
    """Bounds on the mean normalized latency, in s/token."""
    return tuple(Criterion(Slo(((NORMALIZED, limit),))) for limit in limits)


def tail(slo: str, attainment: float) -> tuple[Criterion, ...]:
    """A bound that a share of the requests must meet."""
    return (Criterion(parse_slo(slo), attainment),)


def make_search(
    system: str = "paged",
    criteria: tuple[Criterion, ...] | None = None,
    *,
    dataset: Dataset | None = None,
    search: dict[str, Any] | None = None,
    **options: object,
) -> Search:
    """40 s of arrivals on a card of 40 GB with kernels of 2023, unless `options` say otherwise.

    `search`: fields of Search.
    """
    config = RunConfig(
        system=system,
        **{
            "model": "opt-13b",
            "device": "sim:a100-40gb",
            "cost_model": "roofline",
            "duration": 40.0,
            **options,
        },
    )
    criteria = criteria or bounded(0.3)
    dataset = dataset or load_dataset(config.trace)
    return Search(make_plan(config), dataset, criteria, **{"tolerance": 0.05, **(search or {})})


def probe_at(search: Search, load: float, length: int = 1) -> Probe:
    """A single run of a search."""
    return run_probe(search, serving(search, threading.Event()), load, length)


def found_by(search: Search) -> Found:
    """What the search finds."""
    found = search_capacity(search, threading.Event())
    assert isinstance(found, Found)
    return found


def figures(probe: Probe, criterion: Criterion | None = None) -> tuple[float, ...]:
    """Of a run that was not ended early; by its only criterion, unless one is named."""
    result = probe.results[criterion or next(iter(probe.results))]
    assert result.figures is not None
    return result.figures
