"""Curves drawn with characters: markers stand where their points are, and nothing leaves the grid."""

from __future__ import annotations

import pytest

from pagedbench.show.curves import Curve, Panel, Point
from pagedbench.show.terminal_plot import HEIGHT, MARGIN, terminal_plot, y_limit


def curve(system: str, *points: tuple[float, float]) -> Curve:
    return Curve(system, system, tuple(Point(rate, value, value, value) for rate, value in points))


def lines_of(
    *curves: Curve, y_max: float | None = 1.0, ascii_only: bool = True, width: int = 60
) -> list[str]:
    plot = terminal_plot(
        Panel("title", curves), x_label="x", y_label="y", y_max=y_max, width=width, ascii_only=ascii_only
    )
    return plot.plain.splitlines()


def test_markers_stand_where_their_points_are() -> None:
    lines = lines_of(curve("paged", (0.5, 0.0), (1.0, 0.5), (2.0, 2.0)))
    grid = [line[MARGIN + 2 :] for line in lines[2 : 2 + HEIGHT]]
    found = [(row, column) for row, text in enumerate(grid) for column, c in enumerate(text) if c == "o"]
    assert len(found) == 2  # the third is above 1.0
    (middle, half), (bottom, quarter) = found
    assert bottom == HEIGHT - 1
    assert middle == pytest.approx((HEIGHT - 1) / 2, abs=1)
    assert (quarter, half) == (pytest.approx(12, abs=1), pytest.approx(25, abs=1))
    assert "." in grid[0]  # the line leaves at the top
    assert all(len(line) <= 60 for line in lines)


def test_the_legend_names_every_curve() -> None:
    text = "\n".join(lines_of(curve("paged", (1, 0.1)), curve("mine", (1, 0.2)), ascii_only=False))
    assert "● paged" in text
    assert "✚ mine" in text
    assert "\n".join(lines_of(curve("orca-max", (1, 0.1)))).isascii()


def test_the_axis_ends_above_the_points_or_where_it_was_cut() -> None:
    low, high = curve("paged", (1, 0.2)), curve("paged", (1, 5.0))
    assert y_limit([low], 1.0) == pytest.approx(0.22)
    assert y_limit([low, high], 1.0) == 1.0
    assert y_limit([high], None) == pytest.approx(5.5)


def test_an_endless_climb_is_drawn() -> None:
    assert lines_of(curve("paged", (1.0, 0.5), (1.0001, 1e9)))
