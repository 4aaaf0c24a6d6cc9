"""Readings of memory: which are alike, and which of them is usual."""

from __future__ import annotations

import pytest

from pagedbench.runs.pace import LIKE, alike, format_pace, usual_pace

SLOW, FAST = 36e9, 60e9


def test_noise_is_alike_and_another_place_is_not() -> None:
    assert alike(SLOW, 1.1 * SLOW)
    assert alike(LIKE * SLOW, SLOW)
    assert not alike(SLOW, FAST)
    assert not alike(FAST, SLOW)
    assert alike(None, FAST)
    assert alike(SLOW, None)


@pytest.mark.parametrize(
    ("paces", "expected"),
    [
        ([SLOW, FAST, 1.02 * FAST, 0.98 * FAST], FAST),
        ([FAST, SLOW, 1.02 * SLOW, 1.01 * SLOW, FAST], 1.01 * SLOW),
        ([SLOW, FAST], FAST),
        ([None, SLOW, None], SLOW),
        ([None, None], None),
        ([], None),
    ],
)
def test_what_most_readings_are_like(paces: list[float | None], expected: float | None) -> None:
    assert usual_pace(paces) == expected


def test_in_gigabytes() -> None:
    assert format_pace(SLOW) == "36 GB/s"
    assert format_pace(None) == "an unknown pace"
