"""What a client observed, as the record of a run: latencies, validity, overload."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pagedbench.loadgen.observation import Observation
from pagedbench.loadgen.wire import Failure
from pagedbench.metrics.client import Peak
from pagedbench.metrics.formulas import METRICS, parse_slo, summarize
from pagedbench.metrics.validity import is_overloaded
from pagedbench.prompt import Prompt
from pagedbench.remote.records import record_of
from pagedbench.request import Request, SamplingParams, Status

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord


def request(request_id: int, output_len: int = 3, prompt_len: int = 4) -> Request:
    return Request(
        request_id, float(request_id), Prompt(prompt_len, request_id), SamplingParams(output_len)
    )


def seen(request_id: int, times: list[float], **more: object) -> Observation:
    """A whole reply, sent at its time."""
    usual = Observation(
        request_id=request_id,
        scheduled=float(request_id),
        sent=float(request_id),
        chunk_times=np.array(times),
        chunk_tokens=None,
        finish=times[-1] if times else float(request_id),
        prompt_len=4,
        output_len=len(times),
    )
    return replace(usual, **more)  # type: ignore[arg-type]


def recorded(
    observations: list[Observation], *, lag: float = 0.0, stopped: bool = False, is_text: bool = False
) -> RunRecord:
    lags = np.full(len(observations), lag)
    requests = [request(index) for index in range(len(observations))]
    return record_of(
        requests, observations, lags, forces_lengths=True, takes_token_ids=not is_text, certified=None,
        was_stopped=stopped,
    )  # fmt: skip


def test_latencies_are_those_of_the_times_that_were_seen() -> None:
    record = recorded([seen(1, [1.5, 1.75, 2.5]), seen(0, [0.5, 0.75, 1.0], finish=1.25)])
    table = record.latencies
    np.testing.assert_allclose(table.ttft, [0.5, 0.5])
    np.testing.assert_allclose(table.tpot, [0.25, 0.5])
    np.testing.assert_allclose(table.e2el, [1.25, 1.5])
    np.testing.assert_allclose(table.itl, [0.25, 0.25, 0.25, 0.75])
    assert table.output_len.tolist() == [3, 3]
    assert record.invalid_because == ()
    values = summarize(record, parse_slo("ttft:1s"))
    assert values["slo_attainment"] == 1.0
    assert values["output_throughput"] == 6 / 2.5
    assert all(values[item.name] is None for item in METRICS if item.topic in ("batch", "memory"))


def test_a_part_of_two_tokens_leaves_no_gaps() -> None:
    record = recorded([seen(0, [0.5, 0.75], output_len=3), seen(1, [1.5, 1.75, 2.5])])
    assert len(record.latencies.itl) == record.latencies.num_gaps.sum() == 0
    np.testing.assert_allclose(record.latencies.tpot, [0.125, 0.5])
    uneven = recorded([seen(0, [0.5, 0.6, 0.75], chunk_tokens=np.array([2, 0, 1]))])
    assert len(uneven.latencies.itl) == 0


@pytest.mark.parametrize(
    ("observation", "reason"),
    [
        (seen(0, [], failure=Failure.TIMEOUT, detail="no end"), "1 request failed: 1 did not end in time"),
        (seen(0, []), "1 request failed: 1 got an incomplete reply (no token arrived)"),
        (seen(0, [0.5, 0.6]), "1 request did not get the exact output length"),
        (
            seen(0, [0.5, 0.6, 0.7], output_len=None),
            "the server did not count the tokens of 1 of 1 replies",
        ),
    ],
)
def test_reasons(observation: Observation, reason: str) -> None:
    record = recorded([observation])
    assert [text for text in record.invalid_because if text.startswith(reason)]
    assert summarize(record)["valid"] is False


def test_a_reply_in_one_part_has_no_time_per_token() -> None:
    record = recorded([seen(0, [0.5], output_len=3)])
    assert np.isnan(record.latencies.tpot).all()
    assert summarize(record)["tpot_mean_ms"] is None
    parts = [seen(0, [0.5, 0.75], output_len=3, chunk_tokens=np.array([2, 1]))]
    np.testing.assert_allclose(recorded(parts).latencies.tpot, [0.25])


@pytest.mark.parametrize(("bound", "known"), [("ttft:1s", 1.0), ("tpot:1s", None), ("itl:1s", None)])
def test_times_that_are_not_known_meet_no_bound(bound: str, known: float | None) -> None:
    record = recorded([seen(0, [0.5], output_len=3), seen(1, [1.5, 1.6, 1.7])])
    slo = parse_slo(bound)
    assert summarize(record, slo)["slo_attainment"] == known
    assert slo.is_met(record.latencies)[0] == (known is not None)


@pytest.mark.parametrize(
    ("prompt_len", "is_text", "is_so"),
    [(4, False, True), (5, False, False), (5, True, True), (6, True, True), (7, True, False)],
)
def test_a_prompt_of_another_length_is_another_request(prompt_len: int, is_text: bool, is_so: bool) -> None:
    record = recorded([seen(0, [0.5, 0.6, 0.7], prompt_len=prompt_len)], is_text=is_text)
    assert (record.invalid_because == ()) == is_so


def test_a_miss_without_a_count_is_a_miss() -> None:
    hit, miss = seen(0, [0.5, 0.6, 0.7], num_cached=2), seen(1, [1.5, 1.6, 1.7])
    assert summarize(recorded([hit, miss]))["prefix_hit_pct"] == 25.0
    assert summarize(recorded([replace(hit, num_cached=None), miss]))["prefix_hit_pct"] is None


def test_requests_that_are_refused_at_once_do_not_wait() -> None:
    refused = {"failure": Failure.STATUS, "detail": "status 400"}
    record = recorded([seen(i, [i + 0.1], **refused) for i in range(40)])
    assert not is_overloaded(record)


@pytest.mark.parametrize(("chunks", "word"), [(2, "above the"), (3, "is certified for seconds with")])
def test_chunks_of_replies_are_work_too(chunks: int, word: str) -> None:
    record = recorded([seen(0, [0.5, 0.6, 0.7])])
    assert record.client is not None
    assert word in replace(record.client, certified=Peak(9, chunks)).lag_sentence


def test_requests_sent_late_make_a_run_invalid() -> None:
    record = recorded([seen(0, [0.5, 0.6, 0.7])], lag=0.011)
    assert record.invalid_because == ("1 request was sent more than 10 ms late (100 % of them)",)


def test_what_was_not_sent_after_ctrl_c_is_left_out() -> None:
    skipped = seen(1, [], failure=Failure.SKIPPED)
    record = recorded([seen(0, [0.5, 0.6, 0.7]), skipped], stopped=True)
    assert [item.status for item in record.requests] == [Status.FINISHED]
    assert record.interrupted
    without_stop = recorded([seen(0, [0.5, 0.6, 0.7]), skipped])
    assert without_stop.requests[1].status is Status.FAILED


@pytest.mark.parametrize(("growth", "is_so"), [(0.0, False), (0.05, False), (0.5, True), (5.0, True)])
def test_overload_is_a_growing_number_of_requests_without_a_token(growth: float, is_so: bool) -> None:
    """Each request waits longer than the one before by `growth`; one arrives every second."""
    waits = [0.1 + growth * number for number in range(40)]
    record = recorded([seen(i, [i + wait, i + wait + 1, i + wait + 2]) for i, wait in enumerate(waits)])
    assert is_overloaded(record) == is_so


def test_many_that_wait_without_growing_are_no_overload() -> None:
    record = recorded([seen(i, [i + 10, i + 11, i + 12]) for i in range(40)])
    assert not is_overloaded(record)
