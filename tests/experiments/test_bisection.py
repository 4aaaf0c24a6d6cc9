"""Bisection ends at the limit, from wherever it starts; another limit nearby is found in few tries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.experiments.bisection import MAX_RATE, bisect, bisect_again, spanned

if TYPE_CHECKING:
    from collections.abc import Callable


def up_to(limit: float, tried: list[float]) -> Callable[[float], bool]:
    def is_sustained(load: float) -> bool:
        tried.append(load)
        return load <= limit

    return is_sustained


@pytest.mark.parametrize("limit", [0.037, 0.9, 2.0, 2.01, 77.0])
@pytest.mark.parametrize("start", [0.5, 2.0])
def test_bisection_ends_around_the_limit(limit: float, start: float) -> None:
    tried: list[float] = []
    low, high = bisect(up_to(limit, tried), start=start, lowest=1e-3, tolerance=0.01)
    assert low is not None
    assert high is not None
    assert low <= limit < high <= low * 1.01
    assert {low, high} <= set(tried)
    assert len(tried) == len(set(tried)) < 25
    assert all(float(f"{load:.4g}") == load for load in tried)


def test_bisection_knows_both_ends_of_the_world() -> None:
    low, high = bisect(lambda load: False, start=2.0, lowest=0.1, tolerance=0.01)
    assert low is None
    assert high == pytest.approx(0.125)
    assert bisect(lambda load: True, start=2.0, lowest=0.1, tolerance=0.01) == (MAX_RATE, None)
    tried: list[float] = []
    assert bisect(up_to(9, tried), start=1.0, lowest=1.0, highest=6.7, tolerance=0.01) == (6.7, None)
    assert tried == [1.0, 2.0, 4.0, 6.7]
    assert bisect(up_to(0.5, []), start=1.0, lowest=1.0, highest=6.7, tolerance=0.01) == (None, 1.0)


@pytest.mark.parametrize("limit", [0.2, 1.7, 1.97, 2.0, 2.03, 2.2, 30.0])
def test_another_limit_is_found_from_the_interval_of_the_first(limit: float) -> None:
    tried: list[float] = []
    low, high = bisect_again(up_to(limit, tried), (1.985, 2.02), lowest=0.1, tolerance=0.02)
    assert low is not None
    assert high is not None
    assert low <= limit < high <= low * 1.0205
    if limit == 2.0:
        assert tried == [1.985, 2.02]
    elif 1.9 <= limit <= 2.1:
        assert len(set(tried)) <= 4


def test_another_limit_may_be_beyond_the_ends() -> None:
    ends = {"lowest": 1.0, "highest": 4.0, "tolerance": 0.02}
    assert bisect_again(up_to(0.1, []), (1.985, 2.02), **ends)[0] is None
    assert bisect_again(up_to(9.0, []), (1.985, 2.02), **ends) == (4.0, None)
    assert bisect_again(up_to(9.0, []), (4.0, None), **ends) == (4.0, None)
    assert bisect_again(up_to(0.1, []), (None, 1.0), **ends) == (None, 1.0)


def test_the_span_of_two_intervals() -> None:
    assert spanned((1.0, 1.1), (0.9, 1.05)) == (0.9, 1.1)
    assert spanned((1.0, None), (0.9, 1.05)) == (0.9, None)
    assert spanned((None, 1.1), (0.9, 1.2)) == (None, 1.2)
