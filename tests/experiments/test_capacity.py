"""The search ends at the limit; its runs are those of `run`, on the same gaps; early ends are safe."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from experiments.searches import bounded, make_search
from pagedbench.backend import SimulatedBackend
from pagedbench.experiments.capacity import MAX_RATE, bisect, run_probe, search_capacity
from pagedbench.experiments.capacity_rows import capacity_rows
from pagedbench.experiments.criterion import Criterion
from pagedbench.experiments.traces import trace_of
from pagedbench.metrics.formulas import summarize
from pagedbench.metrics.slo import parse_slo
from pagedbench.report.capacity import COLUMNS


@pytest.mark.parametrize("limit", [0.037, 0.9, 2.0, 2.01, 77.0])
@pytest.mark.parametrize("start", [0.5, 2.0])
def test_bisection_ends_around_the_limit(limit: float, start: float) -> None:
    tried: list[float] = []

    def is_sustained(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    low, high = bisect(is_sustained, start=start, lowest=1e-3, tolerance=0.01)
    assert low is not None
    assert high is not None
    assert low <= limit < high <= low * 1.01
    assert {low, high} <= set(tried)
    assert len(tried) == len(set(tried)) < 25
    assert all(float(f"{rate:.4g}") == rate for rate in tried)


def test_bisection_knows_both_ends_of_the_world() -> None:
    low, high = bisect(lambda rate: False, start=2.0, lowest=0.1, tolerance=0.01)
    assert low is None
    assert high == pytest.approx(0.125)
    low, high = bisect(lambda rate: True, start=2.0, lowest=0.1, tolerance=0.01)
    assert (low, high) == (MAX_RATE, None)


def test_a_probe_is_the_run_of_the_same_options() -> None:
    search = make_search("orca-max")
    probe = run_probe(search, SimulatedBackend(), 0.5, threading.Event())
    config = replace(search.plan.config, rate=0.5)
    plan = replace(search.plan, config=config)
    trace = trace_of(plan, search.dataset)
    record = SimulatedBackend().make_engine(plan).run(trace.arrivals())
    assert probe.figures == (summarize(record)["normalized_latency_mean_s"],)
    assert probe.num_requests == len(trace.requests)


def test_gaps_are_the_same_at_every_rate() -> None:
    search = make_search()
    slow, fast = (trace_of(search.plan, search.dataset, rate).requests for rate in (1.0, 4.0))
    assert len(slow) < len(fast)
    for one, other in zip(slow, fast, strict=False):
        assert one.arrival_time == pytest.approx(4 * other.arrival_time)


def test_the_capacity_keeps_the_bound_and_the_next_rate_does_not() -> None:
    search = make_search(criteria=bounded(0.1, 0.4))
    found = search_capacity(search, threading.Event())
    assert found is not None
    strict, loose = found.capacities
    assert strict.rate < loose.rate
    for capacity, bound in ((strict, 0.1), (loose, 0.4)):
        assert capacity.sustained is not None
        assert capacity.sustained.figures is not None
        assert capacity.sustained.figures[0] <= bound
        assert capacity.missed is not None
        assert capacity.missed.figures is None or capacity.missed.figures[0] > bound
        assert capacity.missed.rate <= capacity.rate * 1.05
    assert [probe.rate for probe in found.probes] == sorted(probe.rate for probe in found.probes)
    rows = capacity_rows(search, found)
    assert set(COLUMNS) <= set(rows[0])
    assert [row["capacity"] for row in rows] == [strict.rate, loose.rate]


def test_a_run_that_ends_early_would_have_missed_the_bound() -> None:
    search = make_search("orca-max", bounded(0.3))
    whole = replace(search, criteria=(Criterion(parse_slo("normalized_latency:1e9s")),))
    ended = 0
    for rate in (0.5, 0.8, 1.5):
        early = run_probe(search, SimulatedBackend(), rate, threading.Event())
        full = run_probe(whole, SimulatedBackend(), rate, threading.Event())
        assert full.figures is not None
        if early.figures is None:
            ended += 1
            assert full.figures[0] > 0.3
        else:
            assert early.figures == full.figures
    assert ended


def test_paged_sustains_more_than_orca() -> None:
    rates = {}
    for system in ("paged", "orca-oracle", "orca-max", "fastertransformer"):
        search = replace(make_search(system, duration=100.0), tolerance=0.2)
        found = search_capacity(search, threading.Event())
        assert found is not None
        rates[system] = found.capacities[0].rate
    assert sorted(rates, key=lambda name: -rates[name]) == list(rates)


def test_a_bound_on_the_share_of_requests() -> None:
    criterion = Criterion(parse_slo("ttft:1s"), attainment=0.9)
    found = search_capacity(make_search(criteria=(criterion,)), threading.Event())
    assert found is not None
    (capacity,) = found.capacities
    assert capacity.sustained is not None
    assert capacity.sustained.figures is not None
    assert capacity.sustained.figures[0] >= 0.9
    assert str(criterion) == "ttft <= 1 s for 90 % of requests"


def test_an_unreachable_bound_is_a_capacity_of_zero() -> None:
    found = search_capacity(make_search(criteria=bounded(1e-6)), threading.Event())
    assert found is not None
    (capacity,) = found.capacities
    assert capacity.sustained is None
    assert capacity.rate == 0.0
    assert capacity.limit is not None


def test_a_stop_ends_the_search() -> None:
    stop = threading.Event()
    stop.set()
    assert search_capacity(make_search(), stop) is None
