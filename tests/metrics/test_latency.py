from __future__ import annotations

import numpy as np

from metrics.builders import make_record, make_request, make_steps, many_requests, small_run
from pagedbench.metrics.latency import latencies


def test_columns_of_a_small_run() -> None:
    table = latencies(small_run(with_failed=True))
    nan = np.nan
    np.testing.assert_array_equal(table.first_token, [2, 2.5, 6, nan])
    np.testing.assert_array_equal(table.last_token, [3.5, 3.5, 6, nan])
    np.testing.assert_array_equal(table.finish, [3.5, 3.5, 6, nan])
    np.testing.assert_array_equal(table.ttft, [1.5, 1.0, 1.25, nan])
    np.testing.assert_array_equal(table.queue_time, [0.5, 0.5, 0.25, nan])
    np.testing.assert_array_equal(table.tpot, [0.75, 1.0, nan, nan])
    np.testing.assert_array_equal(table.itl, [0.5, 1.0, 1.0])
    np.testing.assert_array_equal(table.gap_request, [0, 0, 1])
    np.testing.assert_array_equal(table.longest_gap, [1.0, 1.0, nan, nan])
    np.testing.assert_array_equal(table.normalized_latency, [1.0, 1.0, 1.25, nan])
    np.testing.assert_array_equal(table.is_completed, [True, True, True, False])


def test_a_request_level_batch_ends_later_than_its_tokens() -> None:
    """FasterTransformer returns every request at the end of the batch."""
    steps = make_steps([(0, 1), (1, 2), (2, 3)], decode_ends=[2, 3])
    table = latencies(make_record(steps, [make_request(0, 0.0, admit=0.0, finish=3.0, spans=[(0, 0, 1)])]))
    assert (table.last_token[0], table.finish[0], table.tpot[0], table.e2el[0]) == (2.0, 3.0, 1.0, 3.0)


def test_a_preemption_is_a_long_gap() -> None:
    """Two tokens, then recomputed by iteration 3: a third from the prompt, a fourth decoded."""
    steps = make_steps([(0, 1), (1, 2), (2, 3), (7, 9), (9, 10)], decode_ends=[2, 3, 10])
    request = make_request(0, 0.0, admit=0.0, finish=10.0, spans=[(0, 0, 1), (3, 2, 3)])
    table = latencies(make_record(steps, [request]))
    np.testing.assert_array_equal(table.itl, [1.0, 7.0, 1.0])


def test_derives_what_the_records_say_one_by_one() -> None:
    record = many_requests(200, 60)
    table = latencies(record)
    for row, item in enumerate(record.requests):
        times = item.token_times(record.steps)
        assert len(times) == item.request.output_len
        assert (table.first_token[row], table.last_token[row]) == (times[0], times[-1])
        np.testing.assert_array_equal(table.itl[table.gap_request == row], np.diff(times))
