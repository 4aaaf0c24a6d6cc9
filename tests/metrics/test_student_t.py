"""The three questions against published tables, and against each other."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from pagedbench.metrics.student_t import critical_t, detectable_shift, two_sided_p

FREEDOM = (1, 2, 3, 4, 5, 8, 29, 30, 201, 1000)


@pytest.mark.parametrize(
    ("level", "df", "value"),
    [(0.95, 1, 12.706), (0.95, 4, 2.776), (0.99, 4, 4.604), (0.95, 30, 2.042), (0.9, 120, 1.658)],
)
def test_printed_tables(level: float, df: int, value: float) -> None:
    assert critical_t(level, df) == pytest.approx(value, abs=6e-4)


@pytest.mark.parametrize("df", FREEDOM)
def test_a_critical_value_has_its_own_probability(df: int) -> None:
    for level in (0.01, 0.5, 0.8, 0.95, 0.99, 0.9995):
        assert two_sided_p(-critical_t(level, df), df) == pytest.approx(1 - level, rel=1e-9)
    assert two_sided_p(0.0, df) == 1.0
    assert two_sided_p(math.inf, df) == 0.0


@pytest.mark.parametrize("df", FREEDOM)
def test_a_detectable_shift_is_detected_with_the_power(df: int) -> None:
    for level in (0.9, 0.95, 0.99):
        shift = detectable_shift(level, 0.9, df)
        assert stats.nct.sf(critical_t(level, df), df, shift) == pytest.approx(0.9, abs=1e-4)
