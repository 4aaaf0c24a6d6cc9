"""Charts: every line and bar is drawn, the same every time."""

from __future__ import annotations

import pytest

from pagedbench.show.charts import BarPanel, Bars, Chart, Line, LinePanel, draw_chart
from pagedbench.show.plots import image
from pagedbench.show.styles import SYSTEM_STYLES

pytest.importorskip("matplotlib")

LINES = LinePanel(
    "Panel", "Rate", "Latency",
    (Line("Paged", (1.0, 2.0), (0.1, 0.2), "paged"), Line("Other", (1.0, 2.0), (0.2, 0.9))), y_max=1.0,
)  # fmt: skip
BARS = BarPanel(
    "", "Share", ("a", "b"), (Bars("x", (40.0, 30.0)), Bars("y", (60.0, None))), is_stacked=True
)


def test_lines_have_the_systems_colours_and_the_axis_its_end() -> None:
    (area,) = draw_chart(Chart((LINES,))).axes
    assert [line.get_label() for line in area.lines] == ["Paged", "Other"]
    assert area.lines[0].get_color() == SYSTEM_STYLES["paged"].color
    assert area.get_ylim() == (0, 1.0)
    assert list(area.lines[1].get_ydata()) == [0.2, 0.9]


def test_stacked_bars_stand_on_each_other() -> None:
    (area,) = draw_chart(Chart((BARS,))).axes
    boxes = [(patch.get_y(), patch.get_height()) for patch in area.patches]
    assert boxes == [(0.0, 40.0), (0.0, 30.0), (40.0, 60.0)]


def test_bars_side_by_side_do_not_touch_their_neighbours_group() -> None:
    from dataclasses import replace

    (area,) = draw_chart(Chart((replace(BARS, is_stacked=False),))).axes
    lefts = [patch.get_x() for patch in area.patches]
    assert lefts == pytest.approx([-0.4, 0.6, 0.0])


def test_logarithmic_axes_name_their_points() -> None:
    panel = LinePanel(
        "", "Block size", "Time", (Line("a", (1.0, 16.0), (3.0, 2.0)),), x_log=True, y_log=True
    )
    (area,) = draw_chart(Chart((panel,))).axes
    assert [label.get_text() for label in area.get_xticklabels()] == ["1", "16"]
    assert area.get_yscale() == "log"


def test_equal_charts_are_equal_files() -> None:
    for kind in ("png", "svg"):
        assert image(draw_chart(Chart((LINES, BARS))), kind) == image(
            draw_chart(Chart((LINES, BARS))), kind
        )
