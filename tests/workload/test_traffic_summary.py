"""Traffic in numbers: rates and bursts, sessions, and what was seen before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedbench.workload.rows import BlockIds, Row, Turn
from pagedbench.workload.traffic_summary import (
    arrivals_of,
    history_share,
    portions_of,
    reuse_of,
    sessions_of,
)


def blocks(*ids, length=None, time=None, session=None):
    prompt_len = 10 * len(ids) if length is None else length
    return Row(prompt_len, 1, None, time, session, blocks=BlockIds(ids, 10))


def test_arrivals():
    found = arrivals_of([Row(1, 1, None, time) for time in (10.0, 10.5, 11.0, 14.0)])
    assert found is not None
    assert (found.duration, found.rate, found.busiest_second) == (4.0, 1.0, 2)
    assert found.gap_cv == pytest.approx(1.1785 / 1.3333, rel=1e-3)
    at_once = arrivals_of([Row(1, 1, None, 0.0)] * 3)
    assert at_once is not None
    assert (at_once.duration, at_once.rate, at_once.gap_cv, at_once.busiest_second) == (0.0, None, None, 3)
    assert arrivals_of([Row(1, 1, None, 0.0), Row(1, 1)]) is None


def test_sessions():
    rows = [Row(1, 1, session="a", turn=Turn(0)), Row(1, 1), Row(1, 1, session="b"), Row(1, 1, session="a")]
    rows.append(Row(1, 1, session="a", turn=Turn(2, (0, 1))))
    found = sessions_of(rows)
    assert found is not None
    assert (found.number, found.num_turns, found.longest, found.num_joining) == (2, 4, 3, 1)
    assert sessions_of([Row(1, 1)]) is None


def test_earlier_turns_are_known_by_their_lengths():
    rows = [Row(10, 5, session="a"), Row(7, 1), Row(5, 5, session="a")]
    assert history_share(rows) == 15 / (10 + 7 + 20)
    ids = tuple(range(30))
    assert history_share([Row(10, 5, ids, session="a"), Row(20, 5, ids, session="a")]) == 15 / 30
    assert history_share([Row(10, 5)]) is None
    assert history_share([blocks(1, session="a")]) is None


def test_blocks_that_were_seen_before():
    rows = [blocks(0, 1, session="a"), blocks(0, 2, session="b"), blocks(0, 1, 3, length=25, session="a")]
    portions = portions_of(rows)
    reuse = reuse_of(rows, portions)
    assert reuse is not None
    assert reuse.own is not None
    assert (reuse.num_distinct, reuse.everywhere.num_blocks) == (4, 7)
    assert (reuse.everywhere.seen_blocks, reuse.everywhere.seen_tokens) == (3, 30)
    assert reuse.everywhere.token_share == 30 / 65
    assert (reuse.own.seen_blocks, reuse.own.block_share) == (2, 2 / 7)
    assert (reuse.second_half.num_blocks, reuse.second_half.seen_blocks) == (5, 3)
    assert [portion.distinct_tokens for portion in portions] == [20, 20, 25]
    assert [portion.seen_tokens for portion in portions] == [0, 10, 20]
    assert reuse_of([*rows, Row(1, 1)], portions) is None


def test_tenths_of_the_time_and_of_the_requests():
    rows = [blocks(index, time=time) for index, time in enumerate((0.0, 0.5, 1.0, 55.0, 100.0))]
    portions = portions_of(rows)
    assert [portion.num_requests for portion in portions] == [3, 0, 1, 0, 1]
    assert [portion.end for portion in portions] == [20.0, 40.0, 60.0, 80.0, 100.0]
    reuse = reuse_of(rows, portions)
    assert reuse is not None
    assert [portion.distinct_tokens for portion in portions] == [30, 0, 10, 0, 10]
    assert [portion.end for portion in portions_of([Row(1, 1)] * 25)][-2:] == [22.0, 25.0]
    assert portions_of([Row(4, 1)])[0].prompt_tokens == 4


@given(st.lists(st.tuples(st.lists(st.integers(0, 20), unique=True), st.sampled_from("ab")), min_size=1))
def test_seen_blocks_equal_a_count_with_sets(prompts):
    rows = [blocks(*ids, session=session) for ids, session in prompts]
    reuse = reuse_of(rows, portions_of(rows))
    everywhere, own = set[int](), {"a": set[int](), "b": set[int]()}
    seen = seen_by_own = 0
    for ids, session in prompts:
        seen += len(everywhere & set(ids))
        seen_by_own += len(own[session] & set(ids))
        everywhere |= set(ids)
        own[session] |= set(ids)
    assert reuse is not None
    assert reuse.own is not None
    assert (reuse.everywhere.seen_blocks, reuse.own.seen_blocks) == (seen, seen_by_own)
    assert reuse.num_distinct == len(everywhere)
