from __future__ import annotations

from dataclasses import replace

import numpy as np

from metrics.builders import make_record, make_request, make_steps, many_requests, small_run


def test_columns_of_a_small_run() -> None:
    table = small_run(with_failed=True).latencies
    nan = np.nan
    np.testing.assert_array_equal(table.first_token, [2, 2.5, 6, nan])
    np.testing.assert_array_equal(table.last_token, [3.5, 3.5, 6, nan])
    np.testing.assert_array_equal(table.finish, [3.5, 3.5, 6, nan])
    np.testing.assert_array_equal(table.ttft, [1.5, 1.0, 1.25, nan])
    np.testing.assert_array_equal(table.queue_time, [0.5, 0.5, 0.25, nan])
    np.testing.assert_array_equal(table.tpot, [0.75, 1.0, nan, nan])
    np.testing.assert_array_equal(table.itl, [0.5, 1.0, 1.0])
    np.testing.assert_array_equal(table.num_gaps, [2, 1, 0, 0])
    np.testing.assert_array_equal(table.longest_gap, [1.0, 1.0, nan, nan])
    np.testing.assert_array_equal(table.normalized_latency, [1.0, 1.0, 1.25, nan])
    np.testing.assert_array_equal(table.is_completed, [True, True, True, False])


def test_a_request_level_batch_ends_later_than_its_tokens() -> None:
    """FasterTransformer returns every request at the end of the batch."""
    steps = make_steps([(0, 1), (1, 2), (2, 3)], decode_ends=[2, 3])
    table = make_record(steps, [make_request(0, 0.0, admit=0.0, finish=3.0, spans=[(0, 0, 1)])]).latencies
    assert (table.last_token[0], table.finish[0], table.tpot[0], table.e2el[0]) == (2.0, 3.0, 1.0, 3.0)


def test_a_preemption_is_a_long_gap() -> None:
    """Two tokens, then recomputed by iteration 3: a third from the prompt, a fourth decoded."""
    steps = make_steps([(0, 1), (1, 2), (2, 3), (7, 9), (9, 10)], decode_ends=[2, 3, 10])
    request = make_request(0, 0.0, admit=0.0, finish=10.0, spans=[(0, 0, 1), (3, 2, 3)])
    table = make_record(steps, [request]).latencies
    np.testing.assert_array_equal(table.itl, [1.0, 7.0, 1.0])


def test_a_swap_is_a_long_gap_without_a_prompt() -> None:
    """Two tokens, then swapped out; a third and fourth decoded once it is back, in spans of their own."""
    steps = make_steps([(0, 1), (1, 2), (2, 3), (7, 9), (9, 10)], decode_ends=[2, 3, 9, 10])
    swapped = make_request(
        0, 0.0, admit=0.0, finish=10.0, spans=[(0, 0, 1), (None, 2, 2), (None, 2, 3), (None, 3, 4)]
    )
    other = make_request(1, 1.5, admit=2.0, finish=9.0, spans=[(2, 2, 3)])
    record = make_record(steps, [swapped, other])
    table = record.latencies
    np.testing.assert_array_equal(table.itl, [1.0, 7.0, 1.0, 6.0])
    np.testing.assert_array_equal(table.num_gaps, [3, 1])
    for row, item in enumerate(record.requests):
        times = item.token_times(steps)
        assert (table.first_token[row], table.last_token[row]) == (times[0], times[-1])


def test_tokens_of_one_step_have_the_same_time() -> None:
    """One token from the prompt; then decoding iteration 1 decides three, and iteration 2 one."""
    steps = make_steps([(0, 1), (1, 2), (2, 5)], decode_ends=[2, 5])
    request = make_request(0, 0.0, admit=0.0, finish=5.0, spans=[(0, 0, 2, [1, 1])])
    table = make_record(steps, [request]).latencies
    np.testing.assert_array_equal(request.token_times(steps), [1, 2, 2, 2, 5])
    np.testing.assert_array_equal(table.itl, [1.0, 0.0, 0.0, 3.0])
    assert (table.output_len[0], table.tpot[0]) == (5, 1.0)


def test_sequences_are_samples_or_beams() -> None:
    steps = make_steps([(0, 1)])
    items = [make_request(i, 0.0, admit=0.0, finish=1.0, spans=[(0, 0, 0)], n=3) for i in range(2)]
    beams = replace(items[1].request.sampling, n=1, beam_width=5)
    items[1] = replace(items[1], request=replace(items[1].request, sampling=beams))
    np.testing.assert_array_equal(make_record(steps, items).latencies.num_sequences, [3, 5])


def test_derives_what_the_records_say_one_by_one() -> None:
    record = many_requests(200, 60)
    table = record.latencies
    owner = np.repeat(np.arange(len(table)), table.num_gaps)
    for row, item in enumerate(record.requests):
        times = item.token_times(record.steps)
        assert len(times) == item.request.reply_len
        assert (table.first_token[row], table.last_token[row]) == (times[0], times[-1])
        np.testing.assert_array_equal(table.itl[owner == row], np.diff(times))
