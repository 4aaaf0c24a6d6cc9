"""The search ends at the limit; its runs are those of `run`, on the same gaps; early ends are safe."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from pagedbench.backend import SimulatedBackend
from pagedbench.metrics.formulas import summarize
from pagedbench.metrics.slo import parse_slo
from pagedbench.runs.criterion import Criterion
from pagedbench.runs.parallel import Failure
from pagedbench.runs.traces import trace_of
from pagedbench.tools.capacity.report import COLUMNS
from pagedbench.tools.capacity.rows import capacity_rows
from pagedbench.tools.capacity.search import search_capacity
from tools.capacity.searches import bounded, figures, found_by, make_search, probe_at, tail


def test_a_probe_is_the_run_of_the_same_options() -> None:
    search = make_search("orca-max")
    probe = probe_at(search, 0.5)
    config = replace(search.plan.config, rate=0.5)
    plan = replace(search.plan, config=config)
    trace = trace_of(plan, search.dataset)
    record = SimulatedBackend().make_engine(plan).run(trace.arrivals())
    assert figures(probe) == (summarize(record)["normalized_latency_mean_s"],)
    assert probe.num_requests == len(trace.requests)


def test_gaps_are_the_same_at_every_rate() -> None:
    search = make_search()
    slow, fast = (trace_of(search.plan_at(rate, 1), search.dataset).requests for rate in (1.0, 4.0))
    assert len(slow) < len(fast)
    for one, other in zip(slow, fast, strict=False):
        assert one.arrival_time == pytest.approx(4 * other.arrival_time)


def test_the_capacity_keeps_the_bound_and_the_next_rate_does_not() -> None:
    search = make_search(criteria=bounded(0.1, 0.4))
    found = found_by(search)
    strict, loose = found.capacities
    for capacity, bound in ((strict, 0.1), (loose, 0.4)):
        assert capacity.sustained is not None
        assert capacity.missed is not None
        assert figures(capacity.sustained, capacity.criterion)[0] <= bound
        missed = capacity.missed.results[capacity.criterion].figures
        assert missed is None or missed[0] > bound
        assert capacity.missed.rate <= capacity.sustained.rate * 1.05
    rows = capacity_rows(search, found)
    assert set(COLUMNS) <= set(rows[0])
    assert rows[0]["capacity"] < rows[1]["capacity"]
    rates = [probe.rate for probe in found.probes]
    assert rates == sorted(rates) == [probe["rate"] for probe in rows[0]["probes"]]


def test_a_run_that_ends_early_would_have_missed_the_bound() -> None:
    search = make_search("orca-max", bounded(0.3), duration=80.0)
    whole = replace(search, criteria=(Criterion(parse_slo("normalized_latency:1e9s")),))
    ended = 0
    for rate in (0.5, 0.8, 1.5):
        early = probe_at(search, rate).results[search.criteria[0]].figures
        full = figures(probe_at(whole, rate))
        if early is None:
            ended += 1
            assert full[0] > 0.3
        else:
            assert early == full
    assert ended


def test_paged_sustains_more_than_orca() -> None:
    rates = {}
    for system in ("paged", "orca-oracle", "orca-max", "fastertransformer"):
        found = found_by(replace(make_search(system), tolerance=0.2))
        assert found.capacities[0].sustained is not None
        rates[system] = found.capacities[0].sustained.rate
    assert sorted(rates, key=lambda name: -rates[name]) == list(rates)


def test_a_bound_on_the_share_of_requests() -> None:
    (capacity,) = found_by(make_search(criteria=tail("ttft:1s", 0.9))).capacities
    assert capacity.sustained is not None
    assert figures(capacity.sustained)[0] >= 0.9
    assert str(capacity.criterion) == "ttft <= 1 s for 90 % of requests"


def test_bounds_on_shares_are_told_apart() -> None:
    criteria = tail("normalized_latency:0.1s", 0.9) + tail("normalized_latency:0.4s", 0.9)
    strict, loose = capacity_rows(search := make_search(criteria=criteria), found_by(search))
    assert strict["capacity"] < loose["capacity"]


def test_an_unreachable_bound_is_a_capacity_of_zero() -> None:
    search = make_search(criteria=bounded(1e-6))
    found = found_by(search)
    assert found.capacities[0].sustained is None
    assert capacity_rows(search, found)[0]["capacity"] == 0.0
    assert found.capacities[0].limit is not None


@pytest.mark.parametrize("criteria", [bounded(0.3), tail("ttft:2s", 0.95)])
def test_the_interval_includes_that_of_runs_twice_as_long(criteria: tuple[Criterion, ...]) -> None:
    search = make_search(criteria=criteria, search={"compared_length": 2})
    found = found_by(search)
    (row,) = capacity_rows(search, found)
    assert (row["duration_s"], row["compared_duration_s"]) == (40.0, 80.0)
    assert row["is_widened"]  # the length does matter here
    assert row["missed_rate"] > 1.05 * row["capacity"]
    for length in (1, 2):
        for rate, is_met in ((row["capacity"], True), (row["missed_rate"], False)):
            assert probe_at(search, rate, length).results[criteria[0]].is_met == is_met


def test_the_result_may_be_the_same_in_longer_runs() -> None:
    search = make_search(duration=100.0, search={"compared_length": 2, "tolerance": 0.5})
    (row,) = capacity_rows(search, found_by(search))
    assert not row["is_widened"]
    assert row["compared_duration_s"] == 200.0


def test_a_stop_ends_the_search() -> None:
    stop = threading.Event()
    stop.set()
    assert search_capacity(make_search(), stop) is None


def test_a_run_that_crashes_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("pagedbench.engine.Engine.step", crash)
    found = search_capacity(make_search(), threading.Event())
    assert isinstance(found, Failure)
    assert found.reason.startswith("RuntimeError: out of luck")
