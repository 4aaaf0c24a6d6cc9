"""Charts: rows of tables become lines and bars, systems keep their looks, axes end where they should."""

from __future__ import annotations

import pytest

from pagedbench.show.charts import bars_of, lines_of, top_of
from pagedbench.show.styles import DASHES, PALETTE, PARTS, SYSTEMS, look_at, look_of, variant
from pagedbench.systems import SYSTEMS as KNOWN_SYSTEMS

ROWS = [
    {"system": "paged", "rate": 1.0, "latency": 0.1},
    {"system": "mine", "rate": 1.0, "latency": 0.2},
    {"system": "paged", "rate": 2.0, "latency": None},
    {"system": "paged", "rate": 3.0, "latency": 0.3},
]


def test_rows_become_a_line_a_system() -> None:
    paged, mine = lines_of(ROWS, "rate", "latency", "system")
    assert (paged.label, paged.xs, paged.ys) == ("Paged (vLLM)", (1.0, 3.0), (0.1, 0.3))
    assert paged.look == look_of("paged")
    assert (mine.label, mine.look) == ("mine", None)


def test_rows_become_bars_with_gaps() -> None:
    paged, mine = bars_of(ROWS, "rate", "latency", "system")
    assert paged.values == (0.1, None, 0.3)
    assert mine.values == (0.2, None, None)
    assert mine.looks == ()


def test_an_axis_ends_above_the_points_or_where_it_is_cut() -> None:
    assert top_of([0.2], 1.0) == pytest.approx(0.22)
    assert top_of([0.2, 5.0], 1.0) == 1.0
    assert top_of([5.0], None) == pytest.approx(5.5)
    assert top_of([], None) > 0


def test_every_system_and_every_part_looks_different() -> None:
    assert set(SYSTEMS) == set(KNOWN_SYSTEMS)
    for name in ("color", "marker", "character", "ascii_character", "terminal_color"):
        assert len({getattr(look, name) for look in PALETTE}) == len(PALETTE) > len(SYSTEMS)
    looks = [look for _, look in PARTS.values()]
    for name in ("color", "character", "ascii_character"):
        assert len({getattr(look, name) for look in looks}) == len(looks) == 5
    assert look_of("token states") == PARTS["token_states"][1]


def test_many_lines_are_told_apart() -> None:
    alone = [look_at(index) for index in range(len(PALETTE) * len(DASHES))]
    assert len({(look.color, look.dash) for look in alone}) == len(alone)
    among_others = [variant(PALETTE[2], index) for index in range(8)]
    assert {look.color for look in among_others} == {PALETTE[2].color}
    assert len({(look.marker, look.dash) for look in among_others}) == 8
