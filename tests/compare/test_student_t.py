from __future__ import annotations

import pytest
from scipy import stats

from pagedbench.compare.student_t import critical_t, probability_within, two_sided_p

FREEDOM = (1, 2, 3, 4, 5, 8, 29, 30, 201, 1000)


@pytest.mark.parametrize("df", FREEDOM)
def test_probabilities_are_scipys(df: int) -> None:
    for t in (0.0, 1e-3, 0.3, 1.0, 2.5, 7.0, 40.0, float("inf")):
        assert probability_within(t, df) == pytest.approx(1 - 2 * stats.t.sf(t, df), abs=1e-10)
        assert two_sided_p(-t, df) == pytest.approx(2 * stats.t.sf(t, df), abs=1e-13)


@pytest.mark.parametrize("df", FREEDOM)
def test_critical_values_are_scipys(df: int) -> None:
    for level in (0.01, 0.5, 0.8, 0.95, 0.99, 0.9995):
        assert critical_t(level, df) == pytest.approx(stats.t.ppf((1 + level) / 2, df), rel=1e-9)
