"""The bar of the KV pool fills its width, in proportion, and can be read without colour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedbench.show.bar import PARTS, cells, kv_bar

FIG2_ORCA_MAX = dict(zip((part.column for part in PARTS), (20.0, 12.5, 57.5, 7.5, 2.5), strict=True))


@given(st.lists(st.floats(0, 100), min_size=5, max_size=5), st.integers(1, 200))
def test_cells_fill_the_width_and_round_fairly(shares: list[float], width: int) -> None:
    dealt = cells(shares, width)
    total = sum(shares)
    assert sum(dealt) == (width if total > 0 else 0)
    if total > 0:
        assert all(
            abs(count - width * share / total) < 1 for count, share in zip(dealt, shares, strict=True)
        )


@pytest.mark.parametrize(
    ("ascii_only", "expected"),
    [
        (True, "########=====xxxxxxxxxxxxxxxxxxxxxxxooo."),
        (False, "████████▓▓▓▓▓▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒░░░·"),
    ],
)
def test_parts_are_told_apart_by_their_characters(ascii_only: bool, expected: str) -> None:
    assert kv_bar(FIG2_ORCA_MAX, 40, ascii_only=ascii_only).plain == expected


def test_nothing_ran() -> None:
    assert kv_bar({part.column: None for part in PARTS}, 40, ascii_only=True).plain == ""
