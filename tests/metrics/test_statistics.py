from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pagedbench.metrics.statistics import (
    ALPHA,
    MAX_REPEATS,
    POWER,
    detectable,
    geometric_mean,
    holm_levels,
    paired_effect,
    repeats_needed,
)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scipy_on_random_pairs(seed: int) -> None:
    draws = np.random.default_rng(seed)
    first = draws.lognormal(3, 0.2, size=2 + seed * 3)
    second = first * draws.lognormal(0.02, 0.05, size=len(first))
    effect = paired_effect(first, second)
    expected = stats.ttest_rel(np.log(second), np.log(first))
    assert effect.is_ratio
    assert effect.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    for level in (0.95, 0.99):
        assert effect.interval(level) == pytest.approx(tuple(expected.confidence_interval(level)), rel=1e-8)
    assert effect.relative == pytest.approx(stats.gmean(second / first) - 1, rel=1e-9)
    assert effect.num_agreeing == max(np.sum(second > first), np.sum(second < first)) or effect.count < 5
    assert geometric_mean(first) == pytest.approx(stats.gmean(first))


def test_zero_is_compared_by_differences() -> None:
    effect = paired_effect([0.0, 4.0, 2.0], [1.0, 4.0, 4.0])
    expected = stats.ttest_1samp(np.array([1.0, 0.0, 2.0]) / 2, 0)
    assert not effect.is_ratio
    assert effect.relative == pytest.approx(0.5)
    assert effect.p_value == pytest.approx(expected.pvalue)
    assert (effect.as_change(0.2), effect.as_relative(0.2)) == (0.2, 0.2)


def test_something_from_nothing_is_infinitely_more() -> None:
    effect = paired_effect([0.0, 0.0], [1.0, 0.0])
    assert effect.mean == math.inf
    assert effect.p_value == 1.0  # nobody knows the spread
    assert paired_effect([0.0, 0.0], [0.0, 0.0]).mean == 0.0


def test_pairs_that_all_move_alike_leave_no_doubt() -> None:
    assert paired_effect([1.0, 2.0], [1.1, 2.2]).p_value == 0.0
    assert paired_effect([1.0, 2.0], [1.0, 2.0]).p_value == 1.0


def test_a_single_pair_has_no_interval() -> None:
    effect = paired_effect([1.0], [2.0])
    assert effect.relative == pytest.approx(1.0)
    assert math.isnan(effect.p_value)
    assert effect.interval() == (-math.inf, math.inf)


def test_holm_rejects_what_the_procedure_rejects() -> None:
    draws = np.random.default_rng(1)
    for _ in range(200):
        p_values = draws.uniform(0, 0.06, size=draws.integers(1, 6)).tolist()
        levels = holm_levels(p_values)
        rejected = set()
        for rank, index in enumerate(np.argsort(p_values)):  # the textbook's step-down
            if p_values[index] >= ALPHA / (len(p_values) - rank):
                break
            rejected.add(int(index))
        assert {i for i, level in enumerate(levels) if p_values[i] < 1 - level} == rejected


def test_an_interval_at_holms_level_excludes_zero_exactly_if_rejected() -> None:
    draws = np.random.default_rng(2)
    effects = [
        paired_effect(draws.lognormal(0, 0.1, 5), draws.lognormal(shift, 0.1, 5)) for shift in (0, 0.2, 0.4)
    ]
    for effect, level in zip(effects, holm_levels([item.p_value for item in effects]), strict=True):
        low, high = effect.interval(level)
        assert (low > 0 or high < 0) == (effect.p_value < 1 - level)


def test_one_comparison_is_not_corrected() -> None:
    assert holm_levels([0.3]) == [0.95]
    assert holm_levels([0.01, 0.5]) == pytest.approx([0.975, 0.95])
    assert holm_levels([]) == []


@pytest.mark.parametrize("count", [2, 3, 5, 10, 40, 400])
def test_what_is_called_detectable_is_detected(count: int) -> None:
    """The power of the t-test, from the non-central t distribution."""
    shift = detectable(0.04, count)
    critical = stats.t.ppf(1 - ALPHA / 2, count - 1)
    power = stats.nct.sf(critical, count - 1, shift / (0.04 / math.sqrt(count)))
    assert power == pytest.approx(POWER, abs=1e-4)


def test_repeats_needed_is_the_fewest() -> None:
    needed = repeats_needed(0.04, 0.05)
    assert needed is not None
    assert detectable(0.04, needed) <= 0.05 < detectable(0.04, needed - 1)
    assert repeats_needed(0.0, 0.05) == 2
    assert repeats_needed(5.0, 0.01) is None
    assert repeats_needed(math.nan, 0.05) is None
    assert detectable(0.04, MAX_REPEATS) > 0
