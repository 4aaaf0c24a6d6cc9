"""The authors' generator, to the draw."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pagedbench.tools.paper.arrivals import paper_requests
from pagedbench.workload.rows import Row, TraceError


def test_equals_the_authors_lines_at_seed_0() -> None:
    rows = [Row(10 + i, 20 + 7 * i) for i in range(300)]
    random.seed(0)
    np.random.seed(0)
    counts = np.random.poisson(4.0 * 0.01, size=int(30.0 * 100))
    pairs = [(row.prompt_len, row.output_len) for row in rows if row.prompt_len + row.output_len < 2048]
    pairs = pairs[: counts.sum()]
    random.shuffle(pairs)
    times = [i * 0.01 for i, count in enumerate(counts) for _ in range(count)]

    requests = paper_requests(rows, rate=4.0, duration=30.0)
    assert [(request.prompt_len, request.reply_len) for request in requests] == pairs
    assert np.allclose([request.arrival_time for request in requests], times)


def test_two_requests_a_second_for_an_hour_are_7280() -> None:
    assert len(paper_requests([Row(5, 5)], rate=2.0, duration=3600.0)) == 7280


def test_the_lengths_are_repeated_if_there_are_too_few() -> None:
    requests = paper_requests([Row(5, 6), Row(7, 8)], rate=1.0, duration=20.0)
    assert {request.prompt_len for request in requests} == {5, 7}
    assert len(requests) > 2


def test_every_request_is_decoded_as_the_experiment_says() -> None:
    rows = [Row(5, 6)]
    assert {item.sampling.n for item in paper_requests(rows, rate=1.0, duration=20.0, n=4)} == {4}
    beams = paper_requests(rows, rate=1.0, duration=20.0, beam_width=6)
    assert {(item.sampling.n, item.sampling.beam_width) for item in beams} == {(1, 6)}


def test_a_trace_of_long_pairs_only_is_refused() -> None:
    with pytest.raises(TraceError, match="below 2048 tokens"):
        paper_requests([Row(2000, 900)], rate=1.0, duration=20.0)
