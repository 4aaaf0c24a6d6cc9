"""Requests of live clients: handed over once, in order; and withdrawn wherever they are."""

from __future__ import annotations

import threading

from pagedbench.clock import WallClock
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.workload.live import LiveArrivals


def request(request_id: int) -> Request:
    return Request(request_id, 0.0, Prompt(4), SamplingParams(3))


def test_requests_are_handed_over_once_and_in_order() -> None:
    source = LiveArrivals(lambda groups, now: None)
    for i in (3, 1, 2):
        source.add(request(i))
    source.cancel(1)  # not taken yet: nobody hears of it
    assert source.num_new == 2
    assert (source.cancelled(), [item.request_id for item in source.due(0.0)]) == ([], [3, 2])
    source.cancel(3)
    assert (source.cancelled(), source.cancelled(), source.due(0.0)) == ([3], [], [])
    assert source.has_more
    source.close()
    assert not source.has_more


def test_an_idle_engine_wakes_for_a_request_a_withdrawal_and_the_end() -> None:
    source, clock = LiveArrivals(lambda groups, now: None), WallClock()
    for act in (lambda: source.add(request(0)), lambda: source.cancel(7), source.close):
        thread = threading.Thread(target=source.wait, args=(clock,), daemon=True)
        thread.start()
        assert thread.is_alive()
        act()
        thread.join(timeout=20)
        assert not thread.is_alive()
        source.due(0.0)
        source.cancelled()
