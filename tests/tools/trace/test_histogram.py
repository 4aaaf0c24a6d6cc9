"""Lengths in bins that double."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedbench.tools.trace.histogram import Histogram, length_histogram, summarize_lengths


def test_bins_double_and_the_outer_ones_are_not_empty():
    assert length_histogram([1, 2, 3, 4, 7, 8]) == Histogram((1, 2, 4, 8, 16), (1, 2, 2, 1))
    assert length_histogram([0, 0, 2]) == Histogram((0, 1, 2, 4), (2, 0, 1))
    assert length_histogram([100]) == Histogram((64, 128), (1,))


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_every_length_is_in_its_bin(lengths):
    histogram = length_histogram(lengths)
    for low, high, count in zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False):
        assert count == sum(low <= length < high for length in lengths)
    assert sum(histogram.counts) == len(lengths)
    assert histogram.counts[0]
    assert histogram.counts[-1]


def test_summary():
    summary = summarize_lengths(list(range(1, 102)))
    assert (summary.mean, summary.p50, summary.p90, summary.longest) == (51.0, 51.0, 91.0, 101)
    assert summary.p99 == pytest.approx(100.0)
    assert sum(summary.histogram.counts) == 101
