"""Arrival times, and the source that hands requests over."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.workload.arrivals import ArrivalProcess, FixedArrivals
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


def requests_at(*times: float) -> list[Request]:
    return [Request(i, time, Prompt(1), SamplingParams(1)) for i, time in enumerate(times)]


def test_fixed_arrivals_hand_over_each_request_once_and_in_order():
    requests = requests_at(0.0, 0.0, 1.0, 2.5)
    source = FixedArrivals(requests)
    assert source.next_time == 0.0
    assert source.due(0.0) == requests[:2]
    assert source.due(0.999) == []
    assert (source.has_more, source.next_time) == (True, 1.0)
    source.completed([], 0.999)
    assert source.due(1.0) == requests[2:3]
    assert source.due(99.0) == requests[3:]
    assert (source.has_more, source.next_time) == (False, None)
    assert source.due(100.0) == []


def test_fixed_arrivals_refuse_disorder():
    with pytest.raises(AssertionError):
        FixedArrivals(requests_at(1.0, 0.0))
