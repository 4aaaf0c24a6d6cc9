"""Routers: what each chooses, for any load and any cache, and what staleness hides from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.fleet.replica_view import CacheEvents, Load, ReplicaView, Schedule
from pagedbench.fleet.routers import ROUTERS, Arrival, PrefixApproximate, Surroundings
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


def caching_views(keys: list[int], schedule: Schedule, reports: list[Load]) -> list[ReplicaView]:
    """Views of which only the first has the blocks."""
    events = [CacheEvents() for _ in reports]
    events[0].kept([CachedBlock(i, key, 16 * i, 16) for i, key in enumerate(keys)])
    events[0].send(0.0)
    return [ReplicaView(i, schedule, lambda i=i: reports[i], events[i]) for i in range(len(reports))]


@pytest.mark.parametrize(
    ("fewest", "others", "is_chosen"), [(2, 10, True), (2, 11, False), (40, 60, True), (40, 61, False)]
)
def test_far_more_requests_are_half_as_many_again_and_eight(
    fewest: int, others: int, is_chosen: bool
) -> None:
    views = caching_views([1, 2], Schedule(0.0), [Load(0, 0, 0, 0.0)] * 2)
    views[0].outstanding, views[1].outstanding = others, fewest
    chosen = make_router("prefix").choose(Arrival(0, 40, keys=[1, 2]), views)
    assert (chosen is views[0]) == is_chosen


def test_the_shortest_queue_has_the_prompts_that_were_sent_since_the_report() -> None:
    views = make_views([Load(0, 0, 50, 0.0), Load(0, 0, 90, 0.0)], Schedule(0.1))
    router = make_router("join-shortest-queue")
    assert [view.load.num_tokens for view in views] == [50, 90]
    views[0].send(39)
    assert router.choose(Arrival(0, 8), views) is views[0]
    views[0].send(2)
    assert router.choose(Arrival(0, 8), views) is views[1]


def test_llm_d_weighs_twice_the_prefix_the_queue_and_the_pool() -> None:
    router, arrival = make_router("llm-d"), Arrival(0, 40, keys=[1, 2])
    for reports, number in (
        ([Load(0, 3, 0, 0.5), Load(0, 7, 0, 0.5)], 0),  # equal but for the queue
        ([Load(0, 7, 0, 0.5), Load(0, 3, 0, 0.6)], 1),
        ([Load(0, 3, 0, 0.9), Load(0, 3, 0, 0.2)], 1),
    ):
        for _ in range(2):  # equals would take turns
            assert router.choose(arrival, make_views(reports)).number == number
    for use in (0.9, 1.0):
        views = caching_views([1, 2], Schedule(0.0), [Load(0, 7, 0, use), Load(0, 3, 0, 0.1)])
        assert router.choose(arrival, views) is views[0]  # 2 + 0 + 0.1 to 0 + 1 + 0.9, and 2 to 1.9


def test_dynamo_weighs_blocks_to_compute_against_blocks_in_use() -> None:
    router, arrival = make_router("dynamo"), Arrival(0, 64, keys=[1, 2, 3, 4])
    for used, number in ((63, 0), (65, 1)):  # tokens: 4 blocks less 1, and 4 blocks and 1
        for _ in range(2):
            views = caching_views([1, 2, 3, 4], Schedule(0.0), [Load(0, 0, 0, 0.0)] * 2)
            views[0].send(used)
            assert router.choose(arrival, views).number == number


def test_of_what_was_sent_the_beginning_of_a_prompt_is_forgotten_last() -> None:
    router = PrefixApproximate(Surroundings(num_blocks=2))
    arrival = Arrival(0, 48, keys=[1, 2, 3])
    chosen = router.choose(arrival, make_views([Load(0, 0, 0, 0.0)] * 2))
    assert router.num_cached(chosen, arrival) == 2


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
