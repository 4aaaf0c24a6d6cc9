"""The second half of the arrivals' time, and the longest span with a full batch."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.builders import make_record, make_request, make_steps, small_run
from pagedbench.metrics.formulas import summarize
from pagedbench.metrics.steady import (
    MAX_PAUSE,
    MIN_COMPLETED,
    SteadyPart,
    full_batch_part,
    full_batch_size,
    obstacle_to_full_batch,
    obstacle_to_steady,
    steady_part,
)

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
    assert steady_part(record) == SteadyPart(20.0, 20.0, 20, 80)
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
    assert steady_part(replace(record, requests=(*others, last))) == SteadyPart(20.0, 20.0, 20, 88)
    span = replace(fifth.spans[0], extra=[fifth.spans[0].first + 1] * 2)  # three tokens in one iteration
    others[36] = replace(fifth, spans=(span,))
    assert steady_part(replace(record, requests=(*others, last))) == SteadyPart(20.0, 20.0, 20, 82)


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


def with_running(running: list[int], *, pause_before: int | None = None, pause: float = 0.0) -> RunRecord:
    """A regular run of iterations of 1 s with these batch sizes, one of them after a pause."""
    record = regular_run(len(running) - NUM_TOKENS + 1)
    shift = [
        pause if pause_before is not None and index >= pause_before else 0.0
        for index in range(len(running))
    ]
    times = [(index + late, index + late + 1.0) for index, late in enumerate(shift)]
    steps = make_steps(times, decode_ends=[end for _, end in times], running=running)
    return make_record(steps, record.requests)


def test_the_window_is_the_longest_time_with_a_full_batch() -> None:
    record = with_running([4] * 10 + [10] * 5 + [7] + [8] * 20 + [9] * 10 + [3] * 4)
    assert full_batch_size(record) == 8
    # From 16 to 46 s; a request ends every second, and each second decides three tokens and a first one.
    assert full_batch_part(record) == SteadyPart(16.0, 30.0, 30, 120)
    values = summarize(record)
    assert (values["window_start_s"], values["window_duration_s"]) == (16.0, 30.0)
    assert (values["window_request_throughput"], values["window_output_throughput"]) == (1.0, 4.0)


@pytest.mark.parametrize(("pause", "duration"), [(MAX_PAUSE / 2, 40.0 + MAX_PAUSE / 2), (1.0, 30.0)])
def test_an_idle_engine_has_no_full_batch(pause: float, duration: float) -> None:
    part = full_batch_part(with_running([5] * 40, pause_before=10, pause=pause))
    assert part is not None
    assert part.duration == pytest.approx(duration)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (replace(regular_run(), interrupted=True), "the run did not end"),
        (make_record(make_steps([]), [make_request(0, 0.0)]), "no request completed"),
        (
            with_running([1] * 20 + [10] * 3 + [1] * 20),
            "8 or more of at most 10 requests ran for 3 s at a time, and 90 % of the requests take up to "
            "4 s",
        ),
        (
            with_running([1] * 20 + [10] * 6 + [1] * 20),
            "8 or more of at most 10 requests ran for 6 s at a time, and only 6 completed in it",
        ),
    ],
)
def test_a_run_without_a_window_says_why(record: RunRecord, reason: str) -> None:
    assert obstacle_to_full_batch(record) == reason
    assert full_batch_part(record) is None
    assert summarize(record)["window_request_throughput"] is None


@given(st.lists(st.integers(1, 10), min_size=30, max_size=60))
def test_no_longer_span_is_full(running: list[int]) -> None:
    record = with_running(running)
    least = full_batch_size(record)
    longest = max(sum(1 for _ in own) for is_full, own in groupby(running, least.__le__) if is_full)
    part = full_batch_part(record)
    if part is not None:
        first = round(part.start)
        span = running[first : first + round(part.duration)]
        assert min(span) >= least
        assert len(span) == longest
