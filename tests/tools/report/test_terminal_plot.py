"""Charts drawn with characters: markers stand where their points are, and nothing leaves the grid."""

from __future__ import annotations

import pytest

from pagedbench.show.charts import AreaPanel, Axis, BarPanel, Line, LinePanel, Series
from pagedbench.show.styles import PARTS, look_of
from pagedbench.tools.report.terminal_plot import HEIGHT, MARGIN, terminal_plot


def line(system: str, *points: tuple[float, float]) -> Line:
    return Line(system, tuple(x for x, _ in points), tuple(y for _, y in points), look_of(system))


def lines_of(*lines: Line, ascii_only: bool = True, is_log: bool = False) -> list[str]:
    panel = LinePanel("title", Axis("x", is_log), Axis("y", top=1.0), lines)
    return terminal_plot(panel, width=60, ascii_only=ascii_only).plain.splitlines()


def markers(lines: list[str], marker: str) -> list[tuple[int, int]]:
    """Row and column in the grid."""
    grid = [line[MARGIN + 2 :] for line in lines[2 : 2 + HEIGHT]]
    return [(row, column) for row, text in enumerate(grid) for column, c in enumerate(text) if c == marker]


def test_markers_stand_where_their_points_are() -> None:
    lines = lines_of(line("paged", (0.5, 0.0), (1.0, 0.5), (2.0, 2.0)))
    (middle, half), (bottom, quarter) = markers(lines, "o")  # the third is above 1.0
    assert bottom == HEIGHT - 1
    assert middle == pytest.approx((HEIGHT - 1) / 2, abs=1)
    assert (quarter, half) == (pytest.approx(12, abs=1), pytest.approx(25, abs=1))
    assert "." in lines[2]  # the line leaves at the top
    assert all(len(line) <= 60 for line in lines)


def test_a_logarithmic_axis_has_equal_steps() -> None:
    lines = lines_of(line("paged", (8.0, 0.5), (16.0, 0.5), (32.0, 0.5)), is_log=True)
    columns = sorted(column for _, column in markers(lines, "o"))
    assert columns == [0, pytest.approx(24.5, abs=1), 49]
    assert lines[-3].split() == ["8", "16", "32"]


def test_the_legend_names_every_line() -> None:
    text = "\n".join(lines_of(line("paged", (1, 0.1)), line("mine", (1, 0.2)), ascii_only=False))
    assert "● paged" in text
    assert "▲ mine" in text
    assert "\n".join(lines_of(line("orca-max", (1, 0.1)))).isascii()


def test_an_endless_climb_is_drawn() -> None:
    assert lines_of(line("paged", (1.0, 0.5), (1.0001, 1e9)))


def test_stacked_bars_have_the_length_of_their_parts() -> None:
    parts = [Series(title, (value,), (look,)) for (title, look), value in
             zip(PARTS.values(), (50.0, 25.0, 0.0, 0.0, 25.0), strict=True)]  # fmt: skip
    panel = BarPanel("", Axis("Share (%)", top=100.0), ("orca\nmax",), tuple(parts), is_stacked=True)
    bar = terminal_plot(panel, width=49, ascii_only=True).plain.splitlines()[1]
    assert bar == "orca max " + 16 * "#" + 8 * "=" + 8 * "."


def test_single_bars_have_their_numbers() -> None:
    panel = BarPanel("", Axis("Requests"), ("a", "bc"), (Series("", (2.0, 4.0)),))
    first, second = terminal_plot(panel, width=40, ascii_only=True).plain.splitlines()[1:]
    assert (first.split()[0], first.split()[-1], second.split()[-1]) == ("a", "2.00", "4.00")
    assert second.count("#") == pytest.approx(2 * first.count("#"), abs=1)


def test_a_timeline_has_areas_the_curve_and_marks() -> None:
    times = tuple(float(i) for i in range(50))
    areas = (Series("used", (50.0,) * 50, (look_of("reserved") or PARTS["reserved"][1],)),
             Series("free", (50.0,) * 50, (PARTS["free"][1],)))  # fmt: skip
    curve = Line("Waiting requests", times, tuple(float(i == 10) * 3 for i in range(50)))
    panel = AreaPanel(
        "run", Axis("Time (s)"), Axis("Share", top=100.0), times, areas, curve, (40.0,), "Event"
    )
    lines = terminal_plot(panel, width=60, ascii_only=True).plain.splitlines()
    assert markers(lines, "!") == [(0, 40)]
    assert (0, 10) in markers(lines, "o")
    assert len(markers(lines, "=")) == pytest.approx(HEIGHT / 2 * 50, rel=0.15)
    assert any("o Waiting requests, at most 3" in line for line in lines)
    assert any("! Event" in line for line in lines)
