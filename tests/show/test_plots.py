"""Plots of saved runs: every kind is drawn, shows its figures, and is the same file every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.show.plot_kinds import KINDS, MAX_RUNS, PlotError, check_kind, fitting_kinds
from runs.saved_runs import small_run, small_sweep

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.runs.saved import SavedRun

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> list[SavedRun]:
    return small_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "savings"])
def test_every_kind_is_drawn_the_same_twice(sweep: list[SavedRun], kind: str) -> None:
    from pagedbench.show.plots import draw, image

    check_kind(kind, sweep)
    first, second = (image(draw(kind, sweep, y_max=1.0), "svg") for _ in range(2))
    assert first == second
    assert b"<svg" in first
    if kind == "latency":
        assert image(draw(kind, sweep, y_max=1.0), "png").startswith(b"\x89PNG")


def test_the_latency_axis_is_the_papers(sweep: list[SavedRun]) -> None:
    from pagedbench.show.plots import draw

    (area,) = draw("latency", sweep, y_max=1.0).axes
    assert area.get_xlabel() == "Request rate (req/s)"
    assert area.get_ylabel() == "Normalized latency\n(s/token)"
    assert area.get_ylim() == (0.0, 1.0)
    paged = next(line for line in area.get_lines() if line.get_label() == "Paged (vLLM)")
    assert list(paged.get_xdata()) == [1.0, 4.0]
    assert (paged.get_color(), paged.get_marker()) == ("#0072B2", "o")


def test_memory_bars_fill_the_pool(sweep: list[SavedRun]) -> None:
    from pagedbench.show.plots import draw

    (area,) = draw("memory", sweep, y_max=None).axes
    heights = [[bar.get_height() for bar in part] for part in area.containers]
    assert [sum(column) for column in zip(*heights, strict=True)] == pytest.approx([100.0] * len(sweep))
    assert sorted(heights[0]) == sorted(run.values["kv_token_states_pct"] for run in sweep)  # as in tables


def test_every_mean_is_named_in_its_figure(sweep: list[SavedRun]) -> None:
    from pagedbench.show.plots import draw

    labels = {kind: draw(kind, sweep, y_max=None).axes[0].get_ylabel() for kind in ("memory", "batch")}
    assert labels == {
        "memory": "KV cache usage (%), mean over time",
        "batch": "# batched requests, mean over iterations",
    }


def test_savings_are_of_runs_that_share(tmp_path: Path, sweep: list[SavedRun]) -> None:
    from pagedbench.show.plots import draw

    with pytest.raises(PlotError, match="no run shares blocks"):
        draw("savings", sweep, y_max=None)
    shared = [small_run(tmp_path / f"n{n}", n=n, temperature=1.0) for n in (2, 4)]
    (area,) = draw("savings", [*sweep, *shared], y_max=None).axes
    two, four = (bar.get_height() for bar in area.containers[0])
    assert 0 < two < four


def test_only_fitting_kinds_are_drawn_unasked(sweep: list[SavedRun]) -> None:
    assert fitting_kinds(sweep) == ["latency", "memory", "batch", "cdf", "timeline"]
    assert "latency" not in fitting_kinds(sweep[:1])
    many = sweep * 7
    assert fitting_kinds(many) == ["latency"]
    with pytest.raises(PlotError, match=f"at most {MAX_RUNS['timeline']} runs, and there are 35"):
        check_kind("timeline", many)
    with pytest.raises(PlotError, match="unknown plot 'pie'"):
        check_kind("pie", sweep)
