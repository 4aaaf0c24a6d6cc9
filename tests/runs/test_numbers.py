"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from pagedbench.runs.numbers import counted, gibibytes, number, ratio, span


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "inf"),
        (0.0, "0"),
        (0.012345, "0.0123"),
        (0.9876, "0.988"),
        (0.00012345, "0.000123"),
        (2e-9, "2.00e-09"),
        (1.0, "1.00"),
        (12.345, "12.3"),
        (123.45, "123"),
        (12345.6, "12,346"),
        (1234, "1,234"),
        (-2.5, "-2.50"),
    ],
)
def test_three_significant_digits(value: object, text: str) -> None:
    assert number(value) == text


def test_ratio_needs_both_sides() -> None:
    assert ratio(3.0, 1.5) == "2.00x"
    assert ratio(1, 4) == "0.250x"
    assert ratio(None, 1.5) == ratio(3.0, None) == ratio(3.0, 0.0) == ""


def test_units() -> None:
    assert gibibytes(12 * 2**30) == "12.00 GiB"
    assert gibibytes(50 * 2**20) == "50.00 MiB"
    assert [span(seconds) for seconds in (59.4, 61, 7260)] == ["59 s", "1 min 01 s", "2 h 01 min"]
    assert [counted(count, "row") for count in (1, 2000)] == ["1 row", "2,000 rows"]
