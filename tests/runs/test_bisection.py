"""Bisection ends at the limit, from wherever it starts; an end moves outward until it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.runs.bisection import MAX_RATE, bisect, outward

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


def test_an_end_moves_outward_until_it_is_right() -> None:
    ends = {"lowest": 0.5, "highest": 8.0}
    tried: list[float] = []
    assert outward(up_to(1.2, tried), 2.0, 1 / 1.1, **ends) == 1.128
    assert tried == [2.0, 1.818, 1.502, 1.128]
    assert outward(up_to(2.5, []), 2.0, 1 / 1.1, **ends) == 2.0
    assert outward(up_to(0.55, []), 2.0, 1 / 1.1, **ends) == 0.5
    assert outward(up_to(0.1, []), 2.0, 1 / 1.1, **ends) is None
    assert outward(lambda load: load > 3, 2.0, 1.1, **ends) == 3.543
    assert outward(lambda load: load > 7, 2.0, 1.1, **ends) == 8.0
    assert outward(lambda load: False, 2.0, 1.1, **ends) is None
