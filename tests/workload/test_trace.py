"""Which rows become the requests of a run, and that every system and rate sees the same ones."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedbench.workload.dataset import Dataset, MeanLengths
from pagedbench.workload.dropped import Dropped
from pagedbench.workload.prompts import SharedPrefixes
from pagedbench.workload.rows import Row, TraceError
from pagedbench.workload.selection import Traffic
from pagedbench.workload.trace import Trace, build_trace


def dataset(*lengths: tuple[int, int], **fields: object) -> Dataset:
    rows = tuple(Row(prompt_len, output_len) for prompt_len, output_len in lengths)
    return Dataset("few", rows, "invented for a test", synthetic=True, **fields)


def lengths(trace: Trace) -> list[tuple[int, int]]:
    return [(request.prompt_len, request.reply_len) for request in trace.requests]


TEN = [(index, 10 * index) for index in range(1, 11)]


def test_rows_that_are_too_short_or_too_long_are_dropped_and_counted():
    rows = [(0, 5), (5, 0), (50, 50), (50, 49), (1, 98), (99, 1), (1, 1)]
    trace = build_trace(dataset(*rows, num_unreadable=3), traffic=Traffic(rate=math.inf), max_model_len=100)
    assert lengths(trace) == [(50, 49), (1, 98), (1, 1)]
    assert (trace.num_dropped, trace.num_unreadable) == (4, 3)
    assert trace.dropped == Dropped(7, 2, 2, 100, 206 / 7, 52 / 3)
    assert build_trace(dataset((1, 1)), Traffic(rate=math.inf)).dropped is None


def test_a_shared_prefix_is_part_of_the_prompts_that_are_dropped():
    trace = build_trace(
        dataset((10, 5), (60, 5)), Traffic(rate=math.inf), max_model_len=60, shared=SharedPrefixes(20)
    )
    assert trace.dropped == Dropped(2, 0, 1, 60, 55.0, 30.0)


def test_the_first_rows_are_taken_and_shuffled():
    trace = build_trace(dataset(*TEN), num_requests=6, traffic=Traffic(rate=1.0))
    assert sorted(lengths(trace)) == TEN[:6]
    many = [(index, 1) for index in range(1, 101)]
    orders = [
        lengths(build_trace(dataset(*many), num_requests=100, traffic=Traffic(rate=1.0), seed=seed))
        for seed in (0, 1)
    ]
    assert orders[0] != orders[1]
    assert many not in orders
    assert sorted(orders[0]) == sorted(orders[1]) == many


def test_too_few_rows_are_repeated():
    trace = build_trace(dataset(*TEN), num_requests=23, traffic=Traffic(rate=1.0))
    assert sorted(lengths(trace)) == sorted(TEN * 2 + TEN[:3])
    assert len({request.prompt.seed for request in trace.requests}) == 23


def test_every_row_is_used_in_order_at_infinite_rate():
    trace = build_trace(dataset(*TEN), Traffic(rate=math.inf))
    assert lengths(trace) == TEN
    assert {request.arrival_time for request in trace.requests} == {0.0}
    assert trace.realised_rate == math.inf
    assert trace.arrival == "all at once"
    chosen = build_trace(dataset(*TEN), Traffic(rate=math.inf), num_requests=10)
    assert lengths(chosen) != TEN
    assert sorted(lengths(chosen)) == TEN


def test_requests_are_the_same_at_every_rate_and_arrive_in_step():
    slow, fast = (
        build_trace(dataset(*TEN), Traffic(rate=rate), num_requests=50, seed=7) for rate in (1.0, 8.0)
    )
    at_once = build_trace(dataset(*TEN), Traffic(rate=math.inf), num_requests=50, seed=7)
    assert slow.sha256 == fast.sha256 == at_once.sha256
    assert slow.arrivals_sha256 != fast.arrivals_sha256
    for first, second in zip(slow.requests, fast.requests, strict=True):
        assert (first.prompt, first.sampling) == (second.prompt, second.sampling)
        assert first.arrival_time == second.arrival_time * 8


def test_requests_are_numbered_in_order_of_arrival():
    trace = build_trace(dataset(*TEN), Traffic(rate=5.0), duration=30.0)
    assert [request.request_id for request in trace.requests] == list(range(len(trace.requests)))
    times = [request.arrival_time for request in trace.requests]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] <= 30
    assert trace.realised_rate == len(times) / times[-1]


def test_without_a_number_or_duration_it_is_a_minute_of_arrivals():
    assert build_trace(dataset(*TEN)) == build_trace(dataset(*TEN), Traffic(rate=2.0), duration=60.0)
    assert len(build_trace(dataset(*TEN), Traffic(arrival="constant")).requests) == 120


def test_equal_inputs_give_equal_traces_and_other_seeds_do_not():
    first, second, other = (
        build_trace(dataset(*TEN), Traffic(rate=2.0), num_requests=20, seed=s) for s in (1, 1, 2)
    )
    assert first == second
    assert first.sha256 != other.sha256
    assert first.arrivals_sha256 != other.arrivals_sha256


def test_the_hashes_are_the_same_for_ever():
    """A change of these makes committed results look like another trace."""
    trace = build_trace(dataset(*TEN), Traffic(arrival="constant", rate=2.0), num_requests=5)
    assert trace.sha256 == "0809f794bc1c1fefda86b65e7dc66e3ad35cca79099fb8b30f428dedfe207ba3"
    assert trace.arrivals_sha256 == "62255ff7c3b07238ca8dc956d385e0e43df487f814ec5b504edb26c67fc90fac"


def test_the_hash_sees_lengths_and_contents():
    hashes = {
        build_trace(Dataset("ids", rows, "test", synthetic=False), traffic=Traffic(rate=math.inf)).sha256
        for rows in (
            (Row(2, 3, (5, 6)),),
            (Row(2, 3, (6, 5)),),
            (Row(2, 4, (5, 6)),),
            (Row(2, 3),),
            (Row(2, 3, (5, 6)), Row(1, 3, (7,))),
            (Row(1, 3, (5,)), Row(2, 3, (6, 7))),
        )
    }
    assert len(hashes) == 6


def test_real_token_ids_become_the_prompt():
    rows = (Row(2, 3, (5, 6)), Row(4, 1))
    trace = build_trace(Dataset("ids", rows, "test", synthetic=False), traffic=Traffic(rate=math.inf))
    assert trace.requests[0].prompt.ids(vocab_size=10).tolist() == [5, 6]
    assert trace.requests[1].prompt.token_ids is None
    assert len(trace.requests[1].prompt.ids(vocab_size=1000)) == 4


TIMED = Dataset("timed", tuple(Row(i, i, None, 40.0 * i) for i in range(1, 5)), "test", synthetic=False)


def test_own_timestamps_keep_the_order():
    trace = build_trace(TIMED, Traffic(arrival="trace"), num_requests=3)
    assert [request.arrival_time for request in trace.requests] == [40.0, 80.0, 120.0]
    assert lengths(trace) == [(1, 1), (2, 2), (3, 3)]
    assert lengths(build_trace(TIMED, Traffic(arrival="trace"), duration=80.0)) == [(1, 1), (2, 2)]
    assert lengths(build_trace(TIMED, Traffic(arrival="trace"))) == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert trace.arrival == "the trace's own timestamps"


def test_own_timestamps_can_be_scaled():
    trace = build_trace(TIMED, Traffic(arrival="trace", time_scale=0.5), duration=80.0)
    assert [request.arrival_time for request in trace.requests] == [20.0, 40.0, 60.0, 80.0]
    assert trace.arrival == "the trace's own timestamps, multiplied by 0.5"
    assert trace.sha256 == build_trace(TIMED, Traffic(arrival="trace")).sha256
    assert lengths(build_trace(TIMED, Traffic(arrival="trace", time_scale=2.0), duration=80.0)) == [(1, 1)]


def test_what_the_header_shows():
    trace = build_trace(
        dataset((1, 3), (2, 5), paper_means=MeanLengths(9.0, 8.0)), traffic=Traffic(rate=math.inf)
    )
    assert (trace.mean_prompt_len, trace.mean_output_len) == (1.5, 4.0)
    assert trace.paper_means == MeanLengths(9.0, 8.0)
    assert (trace.name, trace.source, trace.synthetic) == ("few", "invented for a test", True)
    assert build_trace(dataset((1, 1)), Traffic(arrival="gamma", rate=3, burstiness=0.5)).arrival == (
        "gamma at 3 requests/s with burstiness 0.5"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"traffic": Traffic("trace")}, "few has no timestamps for arrival trace"),
        ({"duration": 1e-9}, "no request arrives within 1e-09 s, poisson at 2 requests/s"),
        ({"max_model_len": 11}, "no row of few is left: all 10 have"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_no_request_is_left(options, message):
    with pytest.raises(TraceError, match=message):
        build_trace(dataset(*TEN), **options)


def test_timestamps_cannot_be_repeated_or_reached():
    with pytest.raises(TraceError, match="ask for at most 4 requests"):
        build_trace(TIMED, Traffic(arrival="trace"), num_requests=5)
    with pytest.raises(TraceError, match=r"no request of timed arrives within 39.5 s"):
        build_trace(TIMED, Traffic(arrival="trace"), duration=39.5)


def test_a_trace_has_requests():
    with pytest.raises(TraceError, match="has no requests"):
        Trace("none", (), "test", synthetic=True, arrival="never")


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=30),
    st.integers(1, 80),
    st.integers(2, 100),
    st.integers(0, 2**64),
)
def test_the_selection_rule(rows, number, max_model_len, seed):
    fitting = [(p, o) for p, o in rows if p >= 1 and o >= 1 and p + o < max_model_len]
    if not fitting:
        with pytest.raises(TraceError):
            build_trace(dataset(*rows), num_requests=number, max_model_len=max_model_len, seed=seed)
        return
    trace = build_trace(dataset(*rows), num_requests=number, max_model_len=max_model_len, seed=seed)
    assert trace.num_dropped == len(rows) - len(fitting)
    assert sorted(lengths(trace)) == sorted((fitting * number)[:number])
