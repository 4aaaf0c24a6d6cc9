"""Routers: what each chooses, for any load and any cache, and what staleness hides from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.fleet.replica_view import CacheEvents, Load, ReplicaView, Schedule
from pagedbench.fleet.routers import ROUTERS, Arrival, Surroundings
from pagedbench.memory.eviction import CachedBlock

if TYPE_CHECKING:
    from pagedbench.fleet.routers import Router

loads = st.builds(Load, st.integers(0, 50), st.integers(0, 50), st.integers(0, 9000), st.floats(0, 1))
arrivals = st.lists(st.builds(Arrival, st.integers(0, 999), st.integers(1, 500), st.none() | st.text()))


def make_views(reports: list[Load], schedule: Schedule | None = None) -> list[ReplicaView]:
    schedule = schedule or Schedule(0.0)
    return [ReplicaView(i, schedule, lambda i=i: reports[i], CacheEvents()) for i in range(len(reports))]


def make_router(name: str) -> Router:
    return ROUTERS[name](Surroundings(seed=1, block_size=16, num_blocks=64))


@pytest.mark.parametrize("name", ROUTERS)
@settings(max_examples=25)
@given(reports=st.lists(loads, min_size=1, max_size=6), requests=arrivals)
def test_every_request_goes_to_one_of_the_replicas(
    name: str, reports: list[Load], requests: list[Arrival]
) -> None:
    router, views = make_router(name), make_views(reports)
    for arrival in requests:
        chosen = router.choose(arrival, views)
        assert any(chosen is view for view in views)
        chosen.send(arrival.prompt_len)
    assert sum(view.outstanding for view in views) == len(requests)


@given(reports=st.lists(loads, min_size=1, max_size=6), number=st.integers(0, 40))
def test_round_robin_is_balanced(reports: list[Load], number: int) -> None:
    router, views = make_router("round-robin"), make_views(reports)
    sent = [router.choose(Arrival(i, 8), views).number for i in range(number)]
    counts = [sent.count(view.number) for view in views]
    assert max(counts) - min(counts) <= 1


@given(reports=st.lists(loads, min_size=1, max_size=6))
def test_nobody_joins_a_longer_queue(reports: list[Load]) -> None:
    views = make_views(reports)
    chosen = make_router("join-shortest-queue").choose(Arrival(0, 8), views)
    assert chosen.load.num_tokens == min(load.num_tokens for load in reports)
    views[-1].outstanding = -1
    assert make_router("least-outstanding").choose(Arrival(0, 8), views) is views[-1]
    assert make_router("kv-use").choose(Arrival(0, 8), views).load.kv_use == min(r.kv_use for r in reports)


@pytest.mark.parametrize("name", ["prefix", "prefix-approximate", "llm-d", "dynamo", "preble"])
def test_a_repeated_prompt_goes_where_it_is_cached(name: str) -> None:
    idle = [Load(0, 0, 0, 0.0)] * 4
    schedule, events = Schedule(0.0), [CacheEvents() for _ in idle]
    views = [ReplicaView(i, schedule, lambda: idle[0], events[i]) for i in range(4)]
    router, keys = make_router(name), [11, 12, 13]
    first = router.choose(Arrival(0, 50, keys=keys), views)
    events[first.number].kept([CachedBlock(i, key, 16 * i, 16) for i, key in enumerate(keys)])
    events[first.number].send(0.0)
    for number in range(1, 6):
        assert router.choose(Arrival(number, 60, keys=[*keys, 20 + number]), views) is first
        router.choose(Arrival(100 + number, 60, keys=[900 + number]), views)


def test_an_overloaded_replica_is_left_alone_although_it_has_the_prefix() -> None:
    views = make_views([Load(0, 0, 0, 0.0)] * 2)
    router, arrival = make_router("prefix-approximate"), Arrival(0, 40, keys=[1, 2])
    first = router.choose(arrival, views)
    first.outstanding = 100
    assert router.choose(arrival, views) is not first


def test_sessions_stay_and_few_move_when_a_replica_comes() -> None:
    router, views = make_router("session-affinity"), make_views([Load(0, 0, 0, 0.0)] * 5)
    places = {name: router.choose(Arrival(0, 1, name), views[:4]) for name in map(str, range(400))}
    assert all(router.choose(Arrival(9, 7, name), views[:4]) is place for name, place in places.items())
    moved = [
        name for name, place in places.items() if router.choose(Arrival(0, 1, name), views) is not place
    ]
    assert all(router.choose(Arrival(0, 1, name), views) is views[4] for name in moved)
    assert 40 < len(moved) < 130
    assert {place.number for place in places.values()} == {0, 1, 2, 3}


def test_reports_are_as_old_as_staleness_and_own_counts_are_not() -> None:
    schedule, reports = Schedule(0.1), [Load(1, 0, 10, 0.5)]
    view = make_views(reports, schedule)[0]
    assert view.load.num_running == 1
    schedule.now = 0.05
    view.note_change()
    reports[0] = Load(7, 3, 90, 0.9)
    view.send(4)
    assert (view.load.num_running, view.sent_tokens, view.outstanding) == (1, 4, 1)
    schedule.now = 0.101
    assert (view.load.num_running, view.sent_tokens, view.outstanding) == (7, 0, 1)


def test_cache_events_are_known_from_the_next_report_on() -> None:
    schedule, events = Schedule(0.1), CacheEvents()
    view = ReplicaView(0, schedule, lambda: Load(0, 0, 0, 0.0), events)
    events.kept([CachedBlock(0, 5, 0, 16), CachedBlock(1, 6, 16, 16)])
    events.send(0.03)
    schedule.now = 0.09
    assert view.num_cached([5, 6, 7]) == 0
    schedule.now = 0.11
    assert view.num_cached([5, 6, 7]) == 2
    events.evicted([1], [6])
    events.send(0.15)
    assert view.num_cached([5, 6, 7]) == 2
    schedule.now = 0.2
    assert view.num_cached([5, 6, 7]) == 1
