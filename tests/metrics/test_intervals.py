from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metrics.builders import make_record, make_request, make_steps, many_requests, small_run
from pagedbench.metrics.formulas import METRICS, summarize
from pagedbench.metrics.intervals import (
    CRITICAL_T,
    MIN_EFFECTIVE,
    RARE_SHARE,
    WIDENING,
    Samples,
    effective_number,
    half_width,
    interval,
)
from pagedbench.metrics.observed import Statistic
from pagedbench.metrics.uncertainty import obstacle_of, samples_of, uncertainties, uncertainty


def one_each(values: np.ndarray) -> Samples:
    return Samples(values, np.ones(len(values), dtype=np.int64))


def autoregressive(draws: np.random.Generator, coefficient: float, length: int = 2000) -> np.ndarray:
    """An autoregressive process of variance 1."""
    noise = draws.normal(size=length) * np.sqrt(1 - coefficient**2)
    noise[0] = draws.normal()
    for i in range(1, length):
        noise[i] += coefficient * noise[i - 1]
    return noise


def test_the_interval_is_of_five_sections_and_of_the_best_and_worst_neighbours() -> None:
    values = np.repeat([1.0, 2.0, 3.0, 2.0, 2.0], 20)
    error = np.sqrt(2 * 0.5**2 / 20)
    reach = np.exp(WIDENING * CRITICAL_T * error)
    extra = np.ceil(RARE_SHARE * 100 / 5) * 5
    low, high = ((200 + extra * worst) / (100 + extra) for worst in (1, 3))
    assert interval(one_each(values), None) == pytest.approx((low / reach, high * reach))
    assert interval(one_each(np.full(50, 7.0)), 90) == pytest.approx((7, 7))


def test_the_reach_is_that_of_a_t_interval_and_half_as_much_again() -> None:
    error = np.sqrt((0.2**2 + 0.1**2) * 2 / 20)
    expected = 1.5 * stats.t.ppf(0.975, 4) * error
    assert half_width(np.array([-0.2, -0.1, 0.0, 0.1, 0.2])) == pytest.approx(expected, rel=1e-6)


def test_samples_belong_to_sections_by_request() -> None:
    """Requests without a value, and several values of one request."""
    samples = Samples(np.arange(6.0), np.array([2, 1, 0, 0, 0, 1, 0, 0, 1, 1]))
    assert [part.tolist() for part in samples.sections()] == [[0, 1, 2], [], [3], [], [4, 5]]
    assert interval(samples, None) is None
    assert samples.influences(None) == pytest.approx([-4, -0.5, 0.5, 1.5, 2.5])
    assert samples.influences(50) == pytest.approx([-1, -0.5, 0.5, 0.5, 0.5])


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.lists(st.lists(st.integers(-3, 12), min_size=1, max_size=25), min_size=2, max_size=2),
    st.sampled_from([0.0, 50.0, 90.0, 99.0, 100.0]),
)
def test_percentiles_with_more_values_are_those_of_all(
    values: list[int], more: list[list[int]], percent: float
) -> None:
    samples = one_each(np.array(values, dtype=np.float64))
    found = samples.percentiles_with(percent, [np.array(extra, dtype=np.float64) for extra in more])
    assert found == pytest.approx([np.percentile(values + extra, percent) for extra in more])
    assert samples.values.tolist() == values


@pytest.mark.parametrize("coefficient", [0.0, 0.5, 0.9])
def test_effective_samples_of_an_autoregressive_process(coefficient: float) -> None:
    draws = np.random.default_rng(2)
    found = [effective_number(autoregressive(draws, coefficient)) for _ in range(20)]
    assert np.mean(found) == pytest.approx(2000 * (1 - coefficient) / (1 + coefficient), rel=0.3)
    assert effective_number(np.ones(30)) == 30


@pytest.mark.parametrize("percent", [None, 90.0])
@pytest.mark.parametrize("coefficient", [0.9, 0.98])
def test_coverage_of_dependent_skewed_values(coefficient: float, percent: float | None) -> None:
    """The interval holds the truth in at least 92 % of runs; one for independent values does not."""
    draws, held, naive = np.random.default_rng(0), 0, 0
    truth = np.exp(0.5) if percent is None else np.exp(1.2815516)
    for _ in range(100):
        values = np.exp(autoregressive(draws, coefficient))
        bounds = interval(one_each(values), percent)
        held += bounds is None or bounds[0] <= truth <= bounds[1]
        error = values.std() / np.sqrt(len(values))
        naive += abs(values.mean() - truth) < 1.96 * error
    assert held >= 92
    assert percent is not None or naive < 60


def test_what_cannot_be_told_is_not_told() -> None:
    mean = Statistic("ttft", "mean", 1000.0)
    steady = one_each(np.random.default_rng(1).lognormal(size=500))
    told = uncertainty(mean, steady, None)
    assert told.interval is not None
    assert told.obstacle is None
    assert told.num_effective is not None
    assert told.num_effective > 300
    overloaded = uncertainty(mean, steady, "overloaded")
    assert overloaded.interval is None
    assert overloaded.obstacle == "overloaded"
    queue = uncertainty(mean, one_each(np.linspace(1, 5, 500)), None)
    assert queue.num_effective is not None
    assert queue.num_effective < MIN_EFFECTIVE
    assert queue.interval is None
    assert f"{queue.num_effective:.1f} effective samples" in str(queue.obstacle)


def test_every_latency_has_its_interval() -> None:
    record = many_requests(300, 40)
    values, known = summarize(record), uncertainties(record)
    assert set(known) == {metric.name for metric in METRICS if metric.topic == "latency"}
    for name, item in known.items():
        assert (item.interval is None) == (item.obstacle is not None)
        if item.interval is not None:
            value = values[name]
            assert isinstance(value, float)
            assert item.interval[0] < value < item.interval[1]
    assert known["itl_max_ms"].interval is None
    assert known["tpot_mean_ms"].interval is not None
    assert known["itl_p99_ms"].interval is not None
    assert known["ttft_mean_ms"].num_samples == 300
    lengths = [item.request.reply_len for item in record.requests]
    assert known["itl_p99_ms"].num_samples == sum(lengths) - 300
    assert known["tpot_mean_ms"].num_samples == sum(length > 1 for length in lengths)
    assert uncertainties(record, ["ttft_mean_ms"]) == {"ttft_mean_ms": known["ttft_mean_ms"]}


def test_samples_are_in_order_of_arrival() -> None:
    record = many_requests(30, 8)
    table = record.latencies
    samples = samples_of(table, "itl")
    order = np.argsort(table.arrival, kind="stable")
    owner = np.repeat(np.arange(len(table)), table.num_gaps)
    for rank in (0, 7, 29):
        own = table.itl[owner == order[rank]]
        np.testing.assert_array_equal(samples.between(rank, rank + 1), own)


def test_no_interval_of_a_run_that_did_not_end_or_was_overloaded() -> None:
    whole = many_requests(300, 40)
    assert obstacle_of(whole) is None
    cut = replace(whole, interrupted=True)
    assert {item.interval for item in uncertainties(cut).values()} == {None}
    assert uncertainties(cut)["ttft_mean_ms"].obstacle == "the run did not end"


def test_few_requests_and_single_tokens_have_no_interval() -> None:
    assert all(item.interval is None for item in uncertainties(small_run()).values())
    steps = make_steps([(0, 1)])
    requests = [make_request(i, 0.0, admit=0.0, finish=1.0, spans=[(0, 0, 0)]) for i in range(10)]
    known = uncertainties(make_record(steps, requests))
    assert known["ttft_p99_ms"].interval == pytest.approx((1000.0, 1000.0))
    assert known["itl_mean_ms"].interval is None
    assert known["tpot_p99_ms"].obstacle == "fewer than 10 requests"
