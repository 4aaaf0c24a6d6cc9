"""Curves hold each run once: by panel, by system, by rate, with the range over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.show.curves import latency_panels, run_labels
from pagedbench.show.styles import PART_STYLES, SYSTEM_STYLES, style_of
from pagedbench.systems import SYSTEMS
from runs.saved_runs import small_run, small_sweep

if TYPE_CHECKING:
    from pathlib import Path


def test_a_curve_has_a_point_a_rate_and_the_range_over_seeds(tmp_path: Path) -> None:
    runs = small_sweep(tmp_path)
    (panel,) = latency_panels(runs)
    assert panel.title == "OPT-13B, sharegpt"
    assert [curve.label for curve in panel.curves] == ["Paged (vLLM)", "Orca (Max)"]
    paged, orca = panel.curves
    assert [point.rate for point in paged.points] == [1.0, 4.0]
    values = [run.values["normalized_latency_mean_s"] for run in runs]
    assert paged.points[0].value == paged.points[0].low == paged.points[0].high == values[0]
    assert paged.points[1].value == pytest.approx((values[1] + values[2]) / 2)
    assert (paged.points[1].low, paged.points[1].high) == tuple(sorted(values[1:3]))
    assert [point.value for point in orca.points] == values[3:]


def test_what_differs_makes_a_panel_or_a_line(tmp_path: Path) -> None:
    runs = [
        small_run(tmp_path / "a"),
        small_run(tmp_path / "b", block_size=32),
        small_run(tmp_path / "c", n=2, temperature=1.0),
    ]
    alone, shared = latency_panels(runs)
    assert (alone.title, shared.title) == ("OPT-13B, sharegpt, n 1", "OPT-13B, sharegpt, n 2")
    assert [curve.label.split(",")[0] for curve in alone.curves] == [
        "Paged (vLLM) block size 16",
        "Paged (vLLM) block size 32",
    ]
    labels = run_labels(runs)
    assert len(set(labels)) == 3
    assert all(label.startswith("paged n ") for label in labels)


def test_runs_without_a_finite_rate_make_no_curve(tmp_path: Path) -> None:
    run = small_run(tmp_path / "a", rate=float("inf"), duration=None, num_requests=5)
    assert latency_panels([run]) == []
    assert run_labels([run]) == ["paged"]


def test_every_system_looks_different_and_every_part_too() -> None:
    assert set(SYSTEM_STYLES) == set(SYSTEMS)
    styles = [*SYSTEM_STYLES.values(), style_of("one of my own")]
    for name in ("color", "marker", "character", "ascii_character"):
        assert len({getattr(style, name) for style in styles}) == len(styles)
    assert len({part.color for part in PART_STYLES}) == len(PART_STYLES) == 5
