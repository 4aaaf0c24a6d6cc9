"""Recovery from a spike against its definition, and what else a spike does to a run."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.builders import make_record, make_request, make_steps
from pagedbench.metrics.formulas import summarize
from pagedbench.metrics.spike import WINDOW, in_spike, recovery_time, spike_effect, windowed_tails
from pagedbench.scheduling.batch import BlockedBy
from pagedbench.workload.processes import Spike

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord

SPIKE = Spike(at=20.0, duration=10.0, factor=3.0)
NONE = ("spike_recovery_s", "spike_ttft_before_ms", "spike_ttft_peak_ms", "spike_waiting_max",
        "spike_kv_peak_pct", "spike_preemptions")  # fmt: skip


def tail_at(time: float, arrival: list[float], ttft: list[float]) -> float:
    """The 95th percentile of `ttft` of the arrivals in (time - 10, time]; of none 0."""
    own = sorted(value for at, value in zip(arrival, ttft, strict=True) if at <= time < at + WINDOW)
    if not own:
        return 0.0
    rank = 0.95 * (len(own) - 1)
    low, high = own[math.floor(rank)], own[math.ceil(rank)]
    return low if low == high else low + (rank - math.floor(rank)) * (high - low)


def brute_force(arrival: list[float], ttft: list[float], end: float, limit: float) -> float | None:
    """Recovery, looked for at all moments at which anything can change, and between them."""
    changes = sorted({end, *arrival, *(time + WINDOW for time in arrival)})
    changes = [time for time in changes if end <= time <= max(arrival, default=-1.0)]
    moments = sorted({*changes, *((a + b) / 2 for a, b in pairwise(changes))})
    for index, moment in enumerate(moments):
        if all(tail_at(time, arrival, ttft) <= limit for time in moments[index:]):
            return moment - end
    return None


requests = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 60).map(float), st.floats(0, 60)),
        st.sampled_from([0.5, 1.0, 1.25, 2.0, 9.0, math.inf]),
    ),
    max_size=40,
)


@given(requests, st.sampled_from([0.0, 15.0, 30.0]), st.sampled_from([0.5, 1.0, 1.5, 8.0]))
def test_recovery_is_the_first_moment_from_which_the_tail_stays_low(
    rows: list[tuple[float, float]], end: float, limit: float
) -> None:
    rows = sorted(rows)
    arrival, ttft = [time for time, _ in rows], [value for _, value in rows]
    found = recovery_time(np.array(arrival), np.array(ttft), end, limit)
    assert found == brute_force(arrival, ttft, end, limit)


@given(requests, st.sampled_from([0.0, 20.0]))
def test_tails_are_those_of_the_window(rows: list[tuple[float, float]], start: float) -> None:
    rows = sorted(rows)
    arrival, ttft = [time for time, _ in rows], [value for _, value in rows]
    for time, tail in windowed_tails(np.array(arrival), np.array(ttft), start):
        assert tail == tail_at(time, arrival, ttft)


def run_with(ttft: dict[float, float | None], num_steps: int = 100, **columns: list[int]) -> RunRecord:
    """A request a key, which arrives then and has its first token so much later; None: it failed.

    Iterations take half a second each; a request ends with its first token.
    """
    steps = make_steps([(0.5 * i, 0.5 * i + 0.5) for i in range(num_steps)], **columns)
    made = []
    for index, (arrival, wait) in enumerate(ttft.items()):
        if wait is None:
            made.append(make_request(index, arrival, finish=arrival))
        else:
            step = round(2 * (arrival + wait)) - 1
            made.append(
                make_request(
                    index, arrival, admit=arrival, finish=arrival + wait, spans=[(step, step, step)]
                )
            )
    return make_record(steps, made)


EVEN = {float(second): 1.0 for second in range(1, 39)}
"""A request a second."""


def test_a_system_that_never_notices_recovers_at_once() -> None:
    effect = spike_effect(run_with(EVEN), SPIKE)
    assert (effect.recovery, effect.ttft_before, effect.ttft_peak) == (0.0, 1.0, 1.0)


def test_recovery_counts_from_the_end_of_the_spike() -> None:
    # The last slow request arrives at 25 s, and leaves the window at 35 s.
    effect = spike_effect(run_with({**EVEN, 23.0: 5.0, 25.0: 9.0}), SPIKE)
    assert effect.recovery == 5.0
    assert effect.ttft_peak is not None
    assert 5.0 < effect.ttft_peak < 9.0


def test_a_late_slow_request_undoes_a_recovery() -> None:
    record = run_with({**EVEN, 25.0: 9.0, 36.0: 3.0})
    assert spike_effect(record, SPIKE).recovery is None
    assert summarize(record, spike=SPIKE)["spike_recovery_s"] is None


def test_failed_requests_count_as_infinitely_slow() -> None:
    record = run_with({**EVEN, 28.0: None})
    effect = spike_effect(record, SPIKE)
    assert (effect.recovery, effect.ttft_peak) == (8.0, math.inf)
    assert summarize(record, spike=SPIKE)["spike_ttft_peak_ms"] is None


@pytest.mark.parametrize(
    ("record", "obstacle"),
    [
        (replace(run_with(EVEN), interrupted=True), "the run did not end"),
        (replace(run_with(EVEN), crash="an error"), "the run did not end"),
        (run_with({20.0: 1.0, 33.0: 1.0}), "no request arrived before the spike"),
        (run_with({**EVEN, 7.0: None, 8.0: None}), "too many requests failed before the spike"),
    ],
)
def test_a_recovery_that_nobody_knows_has_a_reason(record: RunRecord, obstacle: str) -> None:
    effect = spike_effect(record, SPIKE)
    assert (effect.obstacle, effect.recovery) == (obstacle, None)


def test_arrivals_that_end_with_the_spike_show_no_recovery() -> None:
    effect = spike_effect(run_with({float(second): 1.0 for second in range(1, 30)}), SPIKE)
    assert (effect.obstacle, effect.recovery) == (None, None)


def test_counts_are_of_the_time_from_the_spike_to_recovery() -> None:
    def at(seconds: dict[float, int]) -> list[int]:
        return [seconds.get(0.5 * step, 0) for step in range(100)]

    record = run_with(
        {**EVEN, 25.0: 9.0},
        waiting=at({5.0: 90, 20.0: 3, 31.0: 7, 38.0: 80}),
        kv_token_states=at({19.5: 100, 24.0: 60, 36.0: 99}),
        preemptions_recompute=at({10.0: 5, 22.0: 1, 35.0: 2, 37.0: 4}),
        preemptions_swap=at({30.0: 1}),
    )
    values = summarize(record, spike=SPIKE)
    names = ("spike_waiting_max", "spike_kv_peak_pct", "spike_preemptions", "spike_ttft_before_ms")
    assert [values[name] for name in names] == [7, 60.0, 4, 1000.0]
    undone = replace(record, requests=run_with({**EVEN, 25.0: 9.0, 38.0: 3.0}).requests)
    values = summarize(undone, spike=SPIKE)  # then until the run ends
    assert [values[name] for name in names] == [80, 99.0, 8, 1000.0]


def test_without_a_spike_nothing_is_said_of_one() -> None:
    values = summarize(run_with(EVEN))
    assert [values[name] for name in NONE] == [None] * len(NONE)


def test_what_ran_and_what_blocked_in_the_spike() -> None:
    record = run_with(
        EVEN,
        running=[1] * 40 + [5] * 10 + [7] * 10 + [1] * 40,
        waiting=[9] * 40 + [3] * 10 + [1] * 10 + [9] * 40,
        kv_token_states=[0] * 40 + [50] * 20 + [0] * 40,
        blocked_by=[BlockedBy.POLICY] * 40 + [BlockedBy.MEMORY] * 10 + [BlockedBy.TOKENS] * 50,
    )
    found = in_spike(record, SPIKE)
    assert found is not None
    assert (found.running, found.step_time, found.kv_token_states_pct) == (6.0, 0.5, 50.0)
    shares = {kind: share for kind, share in found.blocked.items() if share}
    assert shares == {BlockedBy.MEMORY: 0.75, BlockedBy.TOKENS: 0.25}
    assert in_spike(run_with({1.0: 1.0}, num_steps=4), SPIKE) is None
