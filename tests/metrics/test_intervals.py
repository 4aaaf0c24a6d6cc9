from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from metrics.builders import make_record, make_request, make_steps, many_requests, small_run
from pagedbench.metrics.formulas import METRICS, summarize
from pagedbench.metrics.intervals import MIN_REQUESTS, Resamples, inverted_interval, resample
from pagedbench.metrics.uncertainty import uncertainties

if TYPE_CHECKING:
    from numpy.typing import NDArray


def expand(weights: NDArray[np.int16], values: NDArray[np.float64]) -> NDArray[np.float64]:
    drawn = np.repeat(values, weights)
    return drawn[np.isfinite(drawn)]


def test_resamples_are_made_of_whole_blocks() -> None:
    resamples = resample(1000)
    assert resamples is not None
    assert resamples.weights.shape == (1000, 1000)
    assert set(resamples.weights.sum(axis=1)) == {1000}  # 100 blocks of 10
    assert resamples.weights.min() == 0
    # Nobody is drawn more often than others, at the ends neither.
    assert resamples.weights.mean(axis=0) == pytest.approx(1, abs=0.2)
    # Blocks of 10: a request and its neighbour are mostly drawn together.
    middle = resamples.weights[:, 400:600].astype(float)
    near = np.corrcoef(middle[:, 50], middle[:, 51])[0, 1]
    far = np.corrcoef(middle[:, 50], middle[:, 70])[0, 1]
    assert near > 0.8
    assert abs(far) < 0.15


def test_resamples_repeat() -> None:
    first, second = resample(57), resample(57)
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.weights, second.weights)


def test_intervals_are_percentiles_of_the_resampled_statistics() -> None:
    generator = np.random.default_rng(3)
    values = generator.lognormal(size=120).round(1)  # with ties
    values[generator.random(120) < 0.2] = np.nan
    resamples = resample(120)
    assert resamples is not None
    drawn = [expand(weights, values) for weights in resamples.weights]
    percents = [0, 50, 90, 99, 100]
    for percent, interval in zip(percents, resamples.percentile_intervals(values, percents), strict=True):
        expected = np.percentile([np.percentile(sample, percent) for sample in drawn], [2.5, 97.5])
        assert interval == pytest.approx(tuple(expected), rel=1e-12)
    expected = np.percentile([sample.mean() for sample in drawn], [2.5, 97.5])
    assert resamples.mean_interval(values) == pytest.approx(tuple(expected), rel=1e-12)


def test_resamples_without_any_value_do_not_count() -> None:
    resamples = Resamples(np.array([[2, 0, 0], [0, 1, 1], [0, 0, 2]], dtype=np.int16))
    values = np.array([np.nan, 5.0, 5.0])
    assert resamples.mean_interval(values) == (5.0, 5.0)
    assert resamples.percentile_intervals(values, [50]) == [(5.0, 5.0)]
    nothing = np.full(3, np.nan)
    assert resamples.mean_interval(nothing) is None
    assert resamples.percentile_intervals(nothing, [50, 99]) == [None, None]


def autocorrelated(generator: np.random.Generator, length: int) -> NDArray[np.float64]:
    """An autoregressive process with mean 0 and coefficient 0.5."""
    noise = generator.normal(size=length + 50)
    for i in range(1, len(noise)):
        noise[i] += 0.5 * noise[i - 1]
    return noise[50:]


def test_coverage_of_dependent_values() -> None:
    """The interval of a mean holds the truth in most runs; that for independent values does not."""
    generator = np.random.default_rng(0)
    resamples = resample(400)
    assert resamples is not None
    held, naive = 0, 0
    for _ in range(200):
        values = autocorrelated(generator, 400)
        interval = resamples.mean_interval(values)
        assert interval is not None
        held += interval[0] <= 0 <= interval[1]
        naive += abs(values.mean()) < 1.96 * values.std() / 20
    assert 0.85 <= held / 200 <= 0.99
    assert naive < held - 15


def test_coverage_of_a_pooled_percentile() -> None:
    """An exponential's 90th percentile, from requests that have 30 values each."""
    generator = np.random.default_rng(1)
    resamples = resample(100)
    assert resamples is not None
    held = 0
    for _ in range(200):
        values = generator.exponential(size=(100, 30))
        low = (values <= np.percentile(values, 90)).sum(axis=1).astype(float)
        share = resamples.ratio_interval(low, np.full(100, 30.0))
        interval = inverted_interval(values.ravel(), 90, share)
        assert interval is not None
        held += interval[0] <= np.log(10) <= interval[1]
    assert 0.85 <= held / 200 <= 0.99


def test_every_latency_has_its_interval() -> None:
    record = many_requests(300, 40)
    values, known = summarize(record), uncertainties(record)
    assert set(known) == {metric.name for metric in METRICS if metric.topic == "latency"}
    for name, item in known.items():
        if name == "itl_max_ms":
            assert item.interval is None
            continue
        assert item.interval is not None
        value = values[name]
        assert isinstance(value, float)
        assert item.interval[0] <= value <= item.interval[1]
        assert item.interval[0] < item.interval[1]
    assert known["ttft_mean_ms"].num_samples == 300
    lengths = [item.request.reply_len for item in record.requests]
    assert known["itl_p99_ms"].num_samples == sum(lengths) - 300
    assert known["tpot_mean_ms"].num_samples == sum(length > 1 for length in lengths)


def test_few_requests_and_single_tokens_have_no_interval() -> None:
    assert resample(MIN_REQUESTS - 1) is None
    assert all(item.interval is None for item in uncertainties(small_run()).values())
    steps = make_steps([(0, 1)])
    requests = [make_request(i, 0.0, admit=0.0, finish=1.0, spans=[(0, 0, 0)]) for i in range(MIN_REQUESTS)]
    known = uncertainties(make_record(steps, requests))
    assert known["ttft_p99_ms"].interval == (1000.0, 1000.0)
    assert known["itl_mean_ms"].interval is None
    assert known["itl_p99_ms"].interval is None
    assert known["tpot_p99_ms"].interval is None
