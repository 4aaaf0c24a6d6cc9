"""A fleet is engines: one of them is `run`, each request is served once, and who leaves has finished."""

from __future__ import annotations

import numpy as np
import pytest

from pagedbench.backend import SimulatedBackend
from pagedbench.fleet.autoscaling import Autoscaler, Signal
from pagedbench.fleet.replica import Role
from pagedbench.fleet.routers import ROUTERS
from pagedbench.metrics.slo import parse_slo
from pagedbench.runs import columns
from pagedbench.runs.criterion import Criterion
from pagedbench.tools.plan.fleet_record import in_order, record_of
from pagedbench.tools.plan.simulation import Ratio, joined
from tools.plan.fleets import make_fleet, make_setup, simulated

TIMES = ("arrival", "admit", "first_token", "last_token", "finish", "output_len", "itl")


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 3.0},
        {"trace": "agentic", "rate": 0.5, "prefix_caching": True, "length_scale": 0.02},
        {"arrival": "closed", "max_concurrency": 12, "duration": None, "num_requests": 60},
    ],
    ids=["open", "sessions", "closed"],
)
def test_one_replica_is_a_run(options: dict[str, object]) -> None:
    setup = make_setup("prefix" if "prefix_caching" in options else "least-outstanding", **options)
    trace = setup.trace
    engine = SimulatedBackend().make_engine(setup.plan, prefixes=trace.prefixes, requests=trace.requests)
    alone = engine.run(trace.arrivals())
    fleet = make_fleet(setup, 1)
    fleet.run(trace.arrivals())
    replica = fleet.replicas[0]
    record = replica.engine.finish(replica.inbox)
    for content in (columns.request_columns, columns.step_columns):
        assert list(columns.csv_lines(content(record))) == list(columns.csv_lines(content(alone)))


def test_replicas_that_do_not_depend_on_each_other_may_run_alone() -> None:
    setup = make_setup("round-robin")
    assert setup.is_divisible
    alone = simulated(setup, 3)
    fleet = make_fleet(setup, 3)
    fleet.run(setup.trace.arrivals())
    end = max(replica.engine.clock.now for replica in fleet.replicas)
    together = joined([record_of(replica, None, end) for replica in fleet.replicas])
    for name in TIMES:
        assert np.array_equal(
            getattr(alone.latencies, name), getattr(together.latencies, name), equal_nan=True
        )


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("staleness", [0.0, 0.2])
def test_every_request_is_served_once(router: str, staleness: float) -> None:
    setup = make_setup(router, staleness=staleness, duration=8.0, prefix_caching=True)
    record = simulated(setup, 3)
    table, numbers = in_order(record.replicas)
    assert len(table) == len(setup.trace.requests) == record.num_arrived
    assert table.is_completed.all()
    assert table.output_len.tolist() == [request.reply_len for request in setup.trace.requests]
    assert set(numbers.tolist()) == {0, 1, 2}
    assert not record.invalid


@pytest.mark.parametrize(
    "options", [{}, {"prefill": "chunked"}, {"kv_slots": 2600, "prefix_caching": True}]
)
def test_prefill_and_decode_apart(options: dict[str, object]) -> None:
    setup = make_setup("least-outstanding", ratio=Ratio(2, 1), rate=4.0, **options)
    record = simulated(setup, 1)
    table = record.latencies
    assert [item.role for item in record.replicas] == [Role.PREFILL, Role.PREFILL, Role.DECODE]
    assert table.is_completed.all()
    assert table.output_len.tolist() == [request.reply_len for request in setup.trace.requests]
    assert not record.invalid, "lengths are exact, and all blocks came back on both sides"
    long = [request for request in setup.trace.requests if request.reply_len > 1]
    token_bytes = setup.plan.kv_bytes // setup.plan.kv_slots
    assert record.moved_bytes == token_bytes * sum(request.prompt_len for request in long)
    is_long = table.output_len > 1
    least = token_bytes * table.prompt_len[is_long] / setup.link.bandwidth + setup.link.latency  # type: ignore[union-attr]
    assert (table.longest_gap[is_long] > least).all(), "a reply goes on when its prompt has arrived"
    assert (table.first_token <= table.last_token).all()


def test_replicas_start_with_a_delay_and_leave_when_they_have_finished() -> None:
    scaler = Autoscaler(Signal.QUEUE, 1.0, least=1, most=4, interval=2.0, cold_start=5.0)
    setup = make_setup("least-outstanding", autoscaler=scaler, rate=8.0, duration=40.0)
    record = simulated(setup, 1)
    assert record.latencies.is_completed.all()
    assert not record.invalid
    late = [item for item in record.replicas if item.start_time > 0]
    assert late
    for item in late:
        assert item.latencies.arrival.min() >= item.start_time + 5.0
    left = [item for item in record.replicas if item.end_time < record.end_time]
    assert left, "the queue is empty at the end, so some leave"
    for item in left:
        assert np.nanmax(item.latencies.finish, initial=0.0) <= item.end_time


def test_a_search_that_ends_early_decides_the_same() -> None:
    for slo, attainment in (("normalized_latency:0.1s", None), ("ttft:1s tpot:60ms", 0.9)):
        criterion = Criterion(parse_slo(slo), attainment)
        for router in ("round-robin", "least-outstanding"):
            setup = make_setup(router, duration=10.0)
            for size in (1, 2, 3):
                whole = simulated(setup, size, criterion)
                early = simulated(setup, size, criterion, ends_early=True)
                is_met = criterion.is_met(criterion.figures(whole))
                assert early.is_cut != is_met or (not early.is_cut and not is_met)
                assert early.is_cut or np.array_equal(early.latencies.finish, whole.latencies.finish)
