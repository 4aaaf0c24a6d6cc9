from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from metrics.builders import make_record, make_request, make_steps, small_run
from pagedbench.metrics.records import Output, RunRecord
from pagedbench.metrics.validity import is_overloaded


def test_a_run_in_order_has_no_reasons() -> None:
    assert small_run().invalid_because == ()
    assert replace(small_run(), max_lateness=0.010).invalid_because == ()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (replace(small_run(), interrupted=True), "interrupted"),
        (make_record(make_steps([]), []), "no request arrived"),
        (
            small_run(with_failed=True),
            "1 request failed: too large ever to fit the KV pool, or more sequences",
        ),
        (replace(small_run(), num_arrived=5), "2 requests did not finish"),
        (replace(small_run(), owned_at_start=16), "16 slots had an owner before"),
        (replace(small_run(), owned_at_end=1), "1 slot had an owner after"),
        (replace(small_run(), capacity=101), "capacity in 4 iterations"),
        (replace(small_run(), max_lateness=0.0125), "12.5 ms late"),
    ],
)
def test_each_reason_alone(record: RunRecord, reason: str) -> None:
    assert [reason in found for found in record.invalid_because] == [True]


@pytest.mark.parametrize(
    "change",
    [
        {"spans": small_run().requests[1].spans},  # two tokens instead of three
        {"outputs": (Output((5, 6), -1.0),)},
        {"outputs": ()},
        {"outputs": (Output((5, 6, 7), -1.0),) * 2},
    ],
    ids=["decided", "sampled", "missing", "too many"],
)
def test_the_output_length_is_exact(change: dict[str, object]) -> None:
    record = small_run()
    requests = (replace(record.requests[0], **change), *record.requests[1:])
    (reason,) = replace(record, requests=requests).invalid_because
    assert reason == "1 request did not get the exact output length"


def test_sampled_outputs_of_the_right_length_are_valid() -> None:
    record = small_run()
    requests = (replace(record.requests[0], outputs=(Output((5, 6, 7), -1.0),)), *record.requests[1:])
    assert replace(record, requests=requests).invalid_because == ()


def test_every_sequence_has_the_exact_length() -> None:
    record = small_run()
    item = record.requests[0]
    request = replace(item.request, sampling=replace(item.request.sampling, beam_width=2))

    def reasons(*lengths: int) -> int:
        outputs = tuple(Output((5,) * length, -1.0) for length in lengths)
        changed = replace(item, request=request, outputs=outputs)
        return len(replace(record, requests=(changed, *record.requests[1:])).invalid_because)

    assert reasons(3, 3) == reasons(0, 0) == 0  # nothing is sampled in a simulation
    assert reasons(3, 2) == reasons(3, 0) == reasons(3) == reasons(3, 3, 3) == 1


def queue(waiting: list[int], num_requests: int = 100, last_arrival: float = 99.0) -> RunRecord:
    """An iteration a second; arrivals from 0 to `last_arrival`."""
    steps = make_steps([(i, i + 1) for i in range(len(waiting))], waiting=waiting)
    arrivals = np.linspace(0, last_arrival, num_requests)
    return make_record(steps, [make_request(i, float(time)) for i, time in enumerate(arrivals)])


@pytest.mark.parametrize(
    ("waiting", "overloaded"),
    [
        ([i // 5 for i in range(100)], True),
        ([i // 10 for i in range(100)], False),  # 9 of 100 wait: not more than a tenth
        ([11] * 100, False),  # it does not grow
        ([60 - i // 2 for i in range(100)], False),  # it shrinks
        ([0] * 50 + [50 - i // 2 for i in range(50)], False),  # it grew in the first half only
        ([0] * 99 + [11] + [50] * 50, True),
        ([i // 20 for i in range(100)] + list(range(100)), False),  # only after arrivals end
    ],
)
def test_overloaded(waiting: list[int], overloaded: bool) -> None:
    assert is_overloaded(queue(waiting)) is overloaded


def test_the_queue_is_that_which_the_last_arrival_joined() -> None:
    """The last arrival falls into iteration 98, and is handed over to iteration 99."""
    assert is_overloaded(queue([0] * 99 + [20], last_arrival=98.5))
    assert not is_overloaded(queue([0] * 98 + [20, 0], last_arrival=98.5))


def test_all_at_once_is_no_growth() -> None:
    assert not is_overloaded(queue([90, 80, 70], last_arrival=0.0))


def test_arrivals_after_the_last_iteration() -> None:
    assert not is_overloaded(queue([], last_arrival=5.0))
    assert not is_overloaded(queue([50], last_arrival=5.0))
