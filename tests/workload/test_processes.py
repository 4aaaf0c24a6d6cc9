"""Arrival times: rates, gaps, spikes and ramps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pagedbench.workload.processes import ArrivalProcess, Ramp, Spike
from pagedbench.workload.rows import TraceError
from pagedbench.workload.seeds import Stream, generator


def test_gaps_depend_on_the_seed_alone():
    slow, fast = ArrivalProcess("poisson", 1.0), ArrivalProcess("poisson", 4.0)
    assert np.array_equal(slow.times(1000, seed=3), fast.times(1000, seed=3) * 4)
    assert np.array_equal(slow.times(1000, seed=3)[:10], slow.times(10, seed=3))
    assert not np.array_equal(slow.times(10, seed=3), slow.times(10, seed=4))


@pytest.mark.parametrize("process", [ArrivalProcess("poisson", 7.0), ArrivalProcess("gamma", 7.0, 0.2)])
@pytest.mark.parametrize("duration", [0.5, 60.0, 3600.0])
def test_a_duration_takes_exactly_the_arrivals_within_it(process, duration):
    within = process.times_until(duration, seed=5)
    more = process.times(len(within) + 1, seed=5)
    assert np.array_equal(within, more[:-1])
    assert more[-1] > duration
    assert (within <= duration).all()


@pytest.mark.parametrize(("kind", "shape"), [("poisson", 1.0), ("gamma", 0.25), ("gamma", 4.0)])
def test_gaps_have_the_mean_and_the_variance_of_their_process(kind, shape):
    rate, number = 2.0, 200_000
    for seed in (0, 1):
        gaps = np.diff(ArrivalProcess(kind, rate, shape).times(number, seed), prepend=0.0)
        assert gaps.min() >= 0
        # Five standard errors; the coefficient of variation of a gamma of shape k is 1/sqrt(k).
        assert gaps.mean() * rate == pytest.approx(1, abs=5 / math.sqrt(shape * number))
        assert gaps.std() * rate == pytest.approx(1 / math.sqrt(shape), rel=0.03)


def test_poisson_counts_are_poisson():
    times = ArrivalProcess("poisson", 2.0).times_until(20_000, seed=0)
    counts = np.bincount(times.astype(int), minlength=20_000)
    assert counts.mean() == pytest.approx(2, rel=0.03)
    assert counts.var() == pytest.approx(2, rel=0.05)
    assert (counts == 0).mean() == pytest.approx(math.exp(-2), rel=0.05)


def test_gamma_of_shape_one_is_poisson():
    poisson, gamma = ArrivalProcess("poisson", 2.0), ArrivalProcess("gamma", 2.0, 1.0)
    assert np.array_equal(poisson.times(100, seed=1), gamma.times(100, seed=1))


def test_constant_and_infinite_rates():
    assert ArrivalProcess("constant", 4.0).times(4, seed=0).tolist() == [0.25, 0.5, 0.75, 1.0]
    assert len(ArrivalProcess("constant", 2.0).times_until(60, seed=0)) == 120
    for kind in ("poisson", "gamma", "constant"):
        assert ArrivalProcess(kind, math.inf).times(3, seed=0).tolist() == [0.0, 0.0, 0.0]


def test_streams_of_one_seed_are_independent():
    draws = [generator(0, stream).random(4).tolist() for stream in Stream]
    assert len({tuple(values) for values in draws}) == len(Stream)
    assert generator(0, Stream.SHUFFLE).random(4).tolist() == draws[Stream.SHUFFLE]


def test_the_streams_are_the_same_for_ever():
    """A change of these numbers makes every committed result incomparable."""
    assert ArrivalProcess("poisson", 1.0).times(3, seed=0).tolist() == pytest.approx(
        POISSON_AT_SEED_0, rel=1e-12
    )
    assert generator(0, Stream.SHUFFLE).permutation(8).tolist() == SHUFFLE_AT_SEED_0


POISSON_AT_SEED_0 = [3.2935277908098275, 4.056658528959677, 5.309025651575071]
SHUFFLE_AT_SEED_0 = [6, 3, 4, 7, 2, 0, 1, 5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ArrivalProcess("poisson", 1e9).times_until(60.0, 0), "more than 10,000,000 requests"),
        (
            lambda: ArrivalProcess("gamma", 1.0, 1e-300).times_until(60.0, 0),
            "more than 10,000,000 requests",
        ),
        (lambda: ArrivalProcess("poisson", 1.0).times(10**12, 0), "more than 10,000,000 requests"),
        (lambda: ArrivalProcess("poisson", 1.0).times(1, -1), "seed is -1"),
    ],
)
def test_impossible_processes(make, message):
    with pytest.raises(TraceError, match=message):
        make()


@pytest.mark.parametrize("kind", ["poisson", "gamma", "constant"])
def test_a_hundred_thousand_gaps_have_rate_and_variation_of_their_process(kind):
    burstiness = 0.25 if kind == "gamma" else 1.0
    gaps = np.diff(ArrivalProcess(kind, 5.0, burstiness).times(100_000, seed=2), prepend=0.0)
    expected = {"poisson": 1.0, "gamma": 2.0, "constant": 0.0}[kind]
    assert 1 / gaps.mean() == pytest.approx(5.0, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(expected, rel=0.02, abs=1e-9)


def rate_within(times: np.ndarray, start: float, end: float) -> float:
    return float(((times > start) & (times <= end)).sum()) / (end - start)


def test_a_spike_multiplies_the_rate_while_it_lasts():
    process = ArrivalProcess("spike", 50.0, shape=Spike(at=400.0, duration=300.0, factor=4.0))
    times = process.times_until(1500.0, seed=0)
    assert rate_within(times, 0, 400) == pytest.approx(50, rel=0.02)
    assert rate_within(times, 400, 700) == pytest.approx(200, rel=0.02)
    assert rate_within(times, 700, 1500) == pytest.approx(50, rel=0.02)
    for start, end in ((0, 400), (400, 700), (700, 1500)):  # a Poisson process in every part
        gaps = np.diff(times[(times > start) & (times <= end)])
        assert gaps.std() / gaps.mean() == pytest.approx(1.0, rel=0.03)


def test_a_ramp_changes_the_rate_linearly():
    times = ArrivalProcess("ramp", 20.0, shape=Ramp(to=100.0)).times_until(2000.0, seed=0)
    for start in range(0, 2000, 400):
        middle = 20 + 80 * (start + 200) / 2000
        assert rate_within(times, start, start + 400) == pytest.approx(middle, rel=0.03)
    assert len(times) == pytest.approx(60 * 2000, rel=0.02)


SHAPES = [Spike(), Spike(at=3.0, duration=2.0, factor=0.5), Ramp(to=9.0), Ramp(to=0.25)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_shape_stretches_the_gaps_of_the_plain_process(shape):
    """Arrival i comes when the shape expects as many requests as there were at unit rate."""
    numbers = ArrivalProcess("poisson", 1.0).times(500, seed=6)
    process = ArrivalProcess("shaped", 2.0, shape=shape).among(500)
    times = process.times(500, seed=6)
    assert (np.diff(times) > 0).all()
    found = [process.shape.num_expected(time, 2.0) for time in times.tolist()]
    assert found == pytest.approx(numbers.tolist(), rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_duration_takes_the_arrivals_of_a_shape_within_it(shape):
    process = ArrivalProcess("shaped", 2.0, shape=shape).within(120.0)
    times = process.times_until(120.0, seed=1)
    more = process.times(len(times) + 1, seed=1)
    assert times.tolist() == more[:-1].tolist()
    assert times[-1] <= 120.0 < more[-1]


@pytest.mark.parametrize("number", [30, 60, 180, 1000])
def test_a_spike_without_a_time_is_in_the_middle_of_the_arrivals(number):
    """2 requests a second; the spike brings 6 a second for 30 s, or until the requests end."""
    spike = Spike().among(number, 2.0)
    process = ArrivalProcess("spike", 2.0, shape=spike)
    assert spike.num_expected(2 * spike.start, 2.0) == pytest.approx(number)
    assert str(process) == (
        f"poisson at 2 requests/s, 3 times as many from {spike.start:g} to {spike.end:g} s"
    )
