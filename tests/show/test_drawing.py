"""Charts drawn by matplotlib: every line and bar is there, legends are whole, equal charts equal files."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from pagedbench.show.charts import AreaPanel, Axis, BarPanel, Chart, Line, LinePanel, Series
from pagedbench.show.drawing import draw, image
from pagedbench.show.styles import look_of

pytest.importorskip("matplotlib")

LINES = LinePanel(
    "Panel", Axis("Rate"), Axis("Latency", top=1.0),
    (Line("Paged", (1.0, 2.0), (0.1, 0.2), look_of("paged")), Line("Other", (1.0, 2.0), (0.2, 9.0))),
)  # fmt: skip
BARS = BarPanel(
    "", Axis("Share"), ("a", "b"), (Series("x", (40.0, 30.0)), Series("y", (60.0, None))), is_stacked=True
)
AREAS = AreaPanel(
    "", Axis("Time (s)"), Axis("Share", top=100.0), (0.0, 1.0, 2.0),
    (Series("used", (10.0, 50.0, 20.0)), Series("free", (90.0, 50.0, 80.0))),
    Line("Waiting", (0.0, 1.0, 2.0), (0.0, 3.0, 1.0)), (1.0,), "Preemption",
)  # fmt: skip


def test_lines_have_the_systems_colours_and_the_axis_its_end() -> None:
    (area,) = draw(Chart((LINES,))).axes
    assert [line.get_label() for line in area.lines] == ["Paged", "Other"]
    assert (area.lines[0].get_color(), area.lines[0].get_marker()) == ("#0072B2", "o")
    assert area.get_ylim() == (0, 1.0)
    assert list(area.lines[1].get_ydata()) == [0.2, 9.0]


def test_a_range_over_seeds_is_a_band() -> None:
    line = replace(LINES.lines[0], lows=(0.1, 0.1), highs=(0.1, 0.3))
    (area,) = draw(Chart((replace(LINES, lines=(line,)),))).axes
    assert len(area.collections) == 1


def test_stacked_bars_stand_on_each_other() -> None:
    (area,) = draw(Chart((BARS,))).axes
    boxes = [(patch.get_y(), patch.get_height()) for patch in area.patches]
    assert boxes == [(0.0, 40.0), (0.0, 30.0), (40.0, 60.0)]


def test_bars_side_by_side_do_not_touch_their_neighbours_group() -> None:
    (area,) = draw(Chart((replace(BARS, is_stacked=False),))).axes
    assert [patch.get_x() for patch in area.patches] == pytest.approx([-0.4, 0.6, 0.0])


def test_logarithmic_axes_name_their_points() -> None:
    line = Line("a", (8.0, 16.0, 128.0), (3.0, 2.0, 1.0))
    panel = LinePanel("", Axis("Block size", is_log=True), Axis("Time", is_log=True), (line,))
    (area,) = draw(Chart((panel,))).axes
    assert [label.get_text() for label in area.get_xticklabels()] == ["8", "16", "128"]
    assert area.get_yscale() == "log"


def test_events_and_the_curve_are_on_the_timeline() -> None:
    area, right = draw(Chart((AREAS,))).axes
    (marks,) = area.get_lines()
    assert (list(marks.get_xdata()), marks.get_label()) == ([1.0], "Preemption")
    assert list(right.get_lines()[0].get_ydata()) == [0.0, 3.0, 1.0]
    assert right.get_ylabel() == "Waiting"


@pytest.mark.parametrize("number", [2, 5, 12])
def test_legends_are_whole(number: int) -> None:
    lines = tuple(
        Line(f"fastertransformer rate {i}, block size 128", (1.0,), (1.0,)) for i in range(number)
    )
    figure = draw(Chart((replace(LINES, lines=lines),)))
    figure.savefig(io.BytesIO(), format="png")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [line.label for line in lines]
    box, whole = legend.get_window_extent(), figure.bbox
    assert box.x0 >= whole.x0
    assert box.x1 <= whole.x1
    assert box.y1 <= whole.y1
    assert figure.axes[0].bbox.height > 150  # pixels: the legend leaves the chart its room


def test_equal_charts_are_equal_files() -> None:
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        first, second = (image(Chart((LINES, BARS, AREAS)), kind) for _ in range(2))
        assert first == second
        assert first.startswith(start)
