"""The source that hands requests over at times known beforehand."""

from __future__ import annotations

import pytest

from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.workload.arrivals import FixedArrivals


def requests_at(*times: float) -> list[Request]:
    return [Request(i, time, Prompt(1), SamplingParams(1)) for i, time in enumerate(times)]


def test_fixed_arrivals_hand_over_each_request_once_and_in_order():
    requests = requests_at(0.0, 0.0, 1.0, 2.5)
    source = FixedArrivals(requests)
    assert source.next_time == 0.0
    assert source.due(0.0) == requests[:2]
    assert source.due(0.999) == []
    assert (source.has_more, source.next_time) == (True, 1.0)
    source.completed([], 0.999)
    assert source.due(1.0) == requests[2:3]
    assert source.due(99.0) == requests[3:]
    assert (source.has_more, source.next_time) == (False, None)
    assert source.due(100.0) == []


def test_fixed_arrivals_refuse_disorder():
    with pytest.raises(AssertionError):
        FixedArrivals(requests_at(1.0, 0.0))
