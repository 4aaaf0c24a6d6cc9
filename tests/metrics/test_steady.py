"""The steady part: the second half of the arrivals' time, where the batch has filled by then."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metrics.builders import make_record, make_request, make_steps, small_run
from pagedbench.metrics.formulas import summarize
from pagedbench.metrics.steady import MIN_COMPLETED, SteadyPart, obstacle_to_steady, steady_part

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord

NUM_TOKENS = 4


def regular_run(num_requests: int = 41, *, gap: float = 1.0, stretch: float = 1.0) -> RunRecord:
    """A request every `gap` seconds, of four tokens a second, each `stretch` times as far apart.

    Iteration i runs from second i to i + 1, computes prompt i and decodes the three before it.
    """
    num_steps = num_requests + NUM_TOKENS - 1
    ends = [stretch * (index + 1) for index in range(num_steps)]
    steps = make_steps(list(zip([0.0, *ends[:-1]], ends, strict=True)), decode_ends=ends)
    requests = [
        make_request(
            index,
            gap * index,
            admit=stretch * index,
            finish=ends[index + NUM_TOKENS - 1],
            spans=[(index, index + 1, index + NUM_TOKENS)],
        )
        for index in range(num_requests)
    ]
    return make_record(steps, requests)


def test_without_start_and_drain_the_rate_is_the_rate() -> None:
    record = regular_run()
    # Arrivals from 0 to 40 s: of (20, 40] the completions are those of requests 17 to 36.
    assert steady_part(record) == SteadyPart(20.0, 20, 80)
    values = summarize(record)
    assert values["steady_request_throughput"] == 1.0
    assert values["steady_output_throughput"] == 4.0
    assert values["request_throughput"] == pytest.approx(41 / 44)


def test_tokens_count_when_they_are_decided_and_for_every_sample() -> None:
    record = regular_run()
    *others, last = record.requests  # arrives at 40, and decides nothing before
    fifth = others[36]  # all its four tokens are decided within
    sampling = replace(fifth.request.sampling, n=3)
    others[36] = replace(fifth, request=replace(fifth.request, sampling=sampling))
    assert steady_part(replace(record, requests=(*others, last))) == SteadyPart(20.0, 20, 88)
    span = replace(fifth.spans[0], extra=[fifth.spans[0].first + 1] * 2)  # three tokens in one iteration
    others[36] = replace(fifth, spans=(span,))
    assert steady_part(replace(record, requests=(*others, last))) == SteadyPart(20.0, 20, 82)


def test_an_overload_is_measured_at_capacity() -> None:
    """Requests come twice as fast as they are served: half the offered rate, whatever the drain."""
    values = summarize(regular_run(81, stretch=2.0))
    assert values["steady_request_throughput"] == 0.5
    assert values["offered_rate"] == pytest.approx(81 / 80)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (regular_run(gap=0.0), "all requests arrived at once"),
        (make_record(make_steps([]), [make_request(0, 0.0), make_request(1, 3.0)]), "no request completed"),
        (replace(regular_run(), interrupted=True), "the run did not end"),
        (replace(regular_run(), crash="an error"), "the run did not end"),
        (small_run(), "10 % of the requests run for 2.3 s or longer, and arrivals end after only 4.25 s"),
        (
            regular_run(2 * MIN_COMPLETED - 1),
            "too few requests completed in the second half of the arrivals' time: 9",
        ),
    ],
)
def test_a_run_without_a_steady_part_says_why(record: RunRecord, reason: str) -> None:
    assert obstacle_to_steady(record) == reason
    assert steady_part(record) is None
    values = summarize(record)
    assert values["steady_request_throughput"] is None
    assert values["steady_output_throughput"] is None


def test_longer_runs_change_the_whole_and_not_the_steady_part() -> None:
    short, long = (summarize(regular_run(count)) for count in (41, 401))
    for name in ("steady_request_throughput", "steady_output_throughput"):
        assert short[name] == long[name]
    first, second = short["request_throughput"], long["request_throughput"]
    assert isinstance(first, float)
    assert isinstance(second, float)
    assert math.isclose(second / first, (401 / 404) / (41 / 44))
