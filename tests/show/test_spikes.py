"""Spikes in words: every reason comes from what was recorded."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from metrics.test_spike import EVEN, SPIKE, run_with
from pagedbench.metrics.spike import InSpike, SpikeEffect
from pagedbench.scheduling.batch import BlockedBy
from pagedbench.show.spikes import (
    Hit,
    few_arrivals,
    hits_of,
    recovery_sentences,
    spike_sentences,
    spike_table,
)
from runs.results import make_plain_result

USUAL = SpikeEffect(
    obstacle=None,
    recovery=12.0,
    ttft_before=0.1,
    ttft_peak=5.0,
    waiting_max=31,
    kv_peak_pct=98.0,
    num_preemptions=4,
)
DURING = InSpike(running=31.0, step_time=0.04, kv_token_states_pct=85.0, blocked={})
SLOW = replace(USUAL, recovery=40.0)
STUCK = replace(USUAL, recovery=None)
HELD = InSpike(
    running=9.0,
    step_time=0.03,
    kv_token_states_pct=38.0,
    blocked={BlockedBy.MEMORY: 0.3, BlockedBy.FRAGMENTATION: 0.6, BlockedBy.TOKENS: 0.1},
)
FIRST = Hit("a", USUAL, DURING)


RUNS = "in the spike a runs 31.0 requests at a time with token states in 85 % of its pool, b 9.00"
HELD_WORDS = "its queue waits for memory 90 % of the time, with token states in 38 % of the pool"


@pytest.mark.parametrize(
    ("later", "when", "why"),
    [
        (Hit("b", SLOW, HELD), "b 40.0 s", f"{RUNS} ({HELD_WORDS})"),
        (Hit("b", STUCK, replace(HELD, blocked={})), "b had not recovered when arrivals ended", RUNS),
        (
            Hit("b", SLOW, replace(DURING, step_time=0.05)),
            "b 40.0 s",
            "iterations of a take 40.0 ms in the spike, of b 50.0 ms",
        ),
        (Hit("b", replace(SLOW, num_preemptions=9), DURING), "b 40.0 s", "a preempts 4 times, b 9"),
        (
            Hit("b", SLOW, DURING),
            "b 40.0 s",
            "batch sizes, iteration times and preemptions do not say why",
        ),
    ],
)
def test_the_reason_is_the_first_difference_that_was_recorded(later: Hit, when: str, why: str) -> None:
    sentence = f"a recovers first, 12.0 s after the spike ({when}): {why}."
    assert recovery_sentences([later, FIRST]) == [sentence]


def test_systems_that_recover_together_need_no_reason() -> None:
    both = [FIRST, Hit("b", USUAL, HELD)]
    assert recovery_sentences(both) == ["All systems recover 12.0 s after the spike."]


def test_nobody_recovers_and_nobody_is_known() -> None:
    stuck = [Hit("a", STUCK, DURING), Hit("b", STUCK, HELD)]
    assert recovery_sentences(stuck) == ["No system recovered from the spike before arrivals ended."]
    cut = replace(STUCK, obstacle="the run did not end")
    assert recovery_sentences([FIRST, Hit("b", cut, HELD)]) == []


def test_the_next_and_the_last_are_explained_and_ties_are_named() -> None:
    hits = [
        FIRST,
        Hit("same", USUAL, DURING),
        Hit("b", SLOW, HELD),
        Hit("c", replace(SLOW, recovery=50.0), HELD),
        Hit("d", STUCK, HELD),
        Hit("e", replace(STUCK, ttft_peak=math.inf), replace(HELD, blocked={BlockedBy.POLICY: 1.0})),
    ]
    (sentence,) = recovery_sentences(hits)
    assert sentence.startswith(
        "a, same recover first, 12.0 s after the spike (b 40.0 s, c 50.0 s, d, e had not"
    )
    assert ", b 9.00 (its queue waits for memory" in sentence
    assert ", and e 9.00 (its queue waits for its closed batch to end 100 % of the time" in sentence
    assert "c 9.00" not in sentence


def test_other_tails_before_the_spike_are_a_caveat() -> None:
    _, caveat = recovery_sentences([FIRST, Hit("b", replace(SLOW, ttft_before=13.1), HELD)])
    assert caveat.endswith("before the spike, which differs: a 100 ms, b 13.1 s.")


@pytest.mark.parametrize(
    ("ttft", "words"),
    [
        ({**EVEN, 25.0: 9.0}, "1.00 s before and 5.40 s at its peak"),
        ({**EVEN, 25.0: 9.0}, "0 preemptions; recovered 5.00 s after it."),
        ({**EVEN, 36.0: 3.0}, "; had not recovered when arrivals ended."),
        ({20.0: 1.0}, "undefined before and 1.00 s at its peak"),
        ({20.0: 1.0}, "no recovery time: no request arrived before the spike."),
        ({**EVEN, 25.0: None}, "infinite (requests failed) at its peak"),
    ],
)
def test_a_run_says_what_its_spike_did(ttft: dict[float, float | None], words: str) -> None:
    result = make_plain_result(run_with(ttft))
    assert spike_sentences(result) == []
    spiked = replace(result, trace=replace(result.trace, spike=SPIKE))
    sentence = spike_sentences(spiked)[0]
    assert sentence.startswith("Spike: 3 x the rate from 20 to 30 s: TTFT p95 ")
    assert words in sentence


def test_a_tail_of_few_requests_is_a_caveat() -> None:
    result = make_plain_result(run_with(EVEN))
    assert few_arrivals([result]) == []
    spiked = replace(result, trace=replace(result.trace, spike=SPIKE))
    assert few_arrivals([spiked]) == [
        "10 s of arrivals outside the spike are about 10 requests: a single slow one delays the recovery "
        "(a p95 needs 20)."
    ]
    often = {step / 4: 1.0 for step in range(1, 150)}
    result = make_plain_result(run_with(often))
    assert few_arrivals([replace(result, trace=replace(result.trace, spike=SPIKE))]) == []


def test_the_table_has_a_row_a_run() -> None:
    result = make_plain_result(run_with({**EVEN, 36.0: 3.0}))
    spiked = replace(result, trace=replace(result.trace, spike=SPIKE))
    hits = hits_of([result, spiked], ["without", "with"])
    (row,) = spike_table([*hits]).rows
    assert row[:4] == ["with", 1000.0, pytest.approx(2100.0), "no"]
