"""When calls are due: sessions, closed loops, and how calls are shared out among workers."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pagedbench.loadgen.timeline import Timeline, clients_of, shares
from pagedbench.loadgen.wire import Call

TIMES = st.floats(0, 10, allow_nan=False)


@st.composite
def sessions(draw: st.DrawFn) -> list[Call]:
    """Calls, some of which wait for an earlier one."""
    calls: list[Call] = []
    for index in range(draw(st.integers(1, 20))):
        after = draw(st.none() | st.integers(0, index - 1)) if index else None
        calls.append(Call(index, draw(TIMES), b"", after, draw(TIMES)))
    return calls


@given(sessions(), st.none() | st.integers(1, 5), st.floats(0, 5), st.floats(0.01, 3), st.data())
def test_every_call_is_taken_once_when_it_is_due_or_given_up(
    calls: list[Call], clients: int | None, service: float, lead: float, data: st.DataObject
) -> None:
    timeline = Timeline(calls, clients)
    now, taken, given_up = 0.0, dict[int, float](), set[int]()
    ends: dict[int, float] = {}
    under_way: list[tuple[float, Call]] = []
    while under_way or not math.isinf(timeline.next_time):
        timeline.look_ahead(now + lead)
        next_end = min((end for end, _ in under_way), default=math.inf)
        if timeline.next_time <= next_end:
            when, call = timeline.take()
            assert call.request_id not in taken
            taken[call.request_id] = when
            expected = 0.0 if clients is not None and call.after is None else call.due
            assert when >= expected
            if call.after is not None:
                assert when == max(call.due, ends[call.after] + call.delay)
            now = max(now, when)
            under_way.append((now + service, call))
        else:
            under_way.sort(key=lambda item: item[0])
            now, call = under_way.pop(0)
            ends[call.request_id] = now
            has_failed = data.draw(st.booleans())
            given_up |= {other.request_id for other in timeline.ended(call, now, has_failed=has_failed)}
        assert timeline.num_soon >= 0
    assert taken.keys() | given_up == {call.request_id for call in calls}
    assert not taken.keys() & given_up
    assert timeline.num_soon == 0
    assert timeline.next_ahead == math.inf


@given(sessions(), st.integers(0, 25), st.none() | st.integers(1, 5))
def test_the_rest_is_what_was_not_taken(calls: list[Call], num_taken: int, clients: int | None) -> None:
    timeline, taken = Timeline(calls, clients), []
    while len(taken) < num_taken and not math.isinf(timeline.next_time):
        taken.append(timeline.take()[1].request_id)
    left = [call.request_id for call in timeline.rest()]
    assert sorted(taken + left) == [call.request_id for call in calls]
    assert not timeline.rest()


@given(st.lists(TIMES, min_size=1, max_size=30), st.lists(TIMES, max_size=31))
def test_soon_counts_what_is_due_by_then_and_was_not_taken(due: list[float], looks: list[float]) -> None:
    timeline = Timeline([Call(index, when, b"") for index, when in enumerate(due)])
    left, until = sorted(due), 0.0
    for look in sorted(looks):
        until = look
        timeline.look_ahead(until)
        assert timeline.num_soon == sum(when <= until for when in left)
        if left:
            assert timeline.take()[0] == left.pop(0)


@given(sessions(), st.integers(1, 6), st.none() | st.integers(1, 6))
def test_sessions_stay_whole_and_clients_add_up(
    calls: list[Call], num_workers: int, clients: int | None
) -> None:
    dealt = shares(calls, num_workers, clients)
    assert sorted(call.request_id for share in dealt for call in share) == list(range(len(calls)))
    for share in dealt:
        present = set[int]()
        for call in share:
            assert call.after is None or call.after in present
            present.add(call.request_id)
    sizes = [sum(call.after is None for call in share) for share in dealt]
    if clients is None:
        assert max(sizes) - min(sizes) <= 1
    else:
        number = min(num_workers, clients)
        assert sum(clients_of(worker, number, clients) for worker in range(number)) == clients


def test_a_closed_loop_has_so_many_sessions_at_a_time() -> None:
    calls = [Call(0, 9.0, b"", None, 1.0), Call(1, 0.0, b"", 0, 0.5), Call(2, 0.0, b"", None, 2.0)]
    timeline = Timeline(calls, num_clients=1)
    assert timeline.take() == (1.0, calls[0])  # its delay after the start; its own time does not count
    assert timeline.next_time == math.inf
    timeline.ended(calls[0], 3.0, has_failed=False)
    assert timeline.take() == (3.5, calls[1])
    timeline.ended(calls[1], 4.0, has_failed=False)
    assert timeline.take() == (6.0, calls[2])
