"""Charts of saved runs: what is swept is the axis, every kind is drawn, and its numbers are the tables'."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.show.charts import AreaPanel, BarPanel, LinePanel
from pagedbench.show.drawing import PlotError, image
from pagedbench.tools.report.run_charts import KINDS, LATENCY, MAX_RUNS, chart_of, fitting_kinds
from runs.saved_runs import small_run, small_sweep

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.runs.saved import SavedRun


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> list[SavedRun]:
    return small_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "savings"])
def test_every_kind_is_drawn(sweep: list[SavedRun], kind: str) -> None:
    pytest.importorskip("matplotlib")
    assert b"<svg" in image(chart_of(kind, sweep), "svg")


def test_a_line_has_a_point_a_rate_and_the_range_over_seeds(sweep: list[SavedRun]) -> None:
    (panel,) = chart_of("latency", sweep).panels
    assert isinstance(panel, LinePanel)
    assert (panel.title, panel.x.label) == ("OPT-13B, sharegpt", "Request rate (req/s)")
    assert (panel.y.label, panel.y.top) == ("Normalized latency\n(s/token)", 1.0)
    paged, orca = panel.lines
    assert (paged.label, orca.label) == ("Paged (vLLM)", "Orca (Max)")
    values = [run.values[LATENCY] for run in sweep]
    assert paged.xs == (1.0, 4.0)
    assert paged.ys == pytest.approx((values[0], (values[1] + values[2]) / 2))
    assert (paged.lows[1], paged.highs[1]) == tuple(sorted(values[1:3]))
    assert list(orca.ys) == values[3:]


def test_latency_is_over_whatever_was_swept(tmp_path: Path, sweep: list[SavedRun]) -> None:
    runs = [small_run(tmp_path / str(size), duration=5.0, block_size=size) for size in (128, 8, 16)]
    (panel,) = chart_of("latency", runs).panels
    assert isinstance(panel, LinePanel)
    assert (panel.x.label, panel.x.is_log) == ("Block size (tokens)", True)
    (line,) = panel.lines
    assert (line.label, line.xs) == ("Paged (vLLM)", (8.0, 16.0, 128.0))
    modes = [small_run(tmp_path / mode, duration=5.0, preemption=mode) for mode in ("swap", "recompute")]
    (bars,) = chart_of("latency", modes).panels
    assert isinstance(bars, BarPanel)
    assert bars.groups == ("paged\nrecompute", "paged\nswap")
    assert bars.bars[0].values == tuple(run.values[LATENCY] for run in modes[::-1])


def test_what_differs_makes_a_panel_or_a_line(tmp_path: Path) -> None:
    runs = [
        small_run(tmp_path / f"{name}{rate:g}", rate=rate, duration=5.0, **options)
        for rate in (1.0, 2.0)
        for name, options in (("a", {"block_size": 128}), ("b", {"block_size": 16}),
                              ("c", {"n": 2, "temperature": 1.0}))
    ]  # fmt: skip
    alone, shared = chart_of("latency", runs).panels
    assert (alone.title, shared.title) == ("OPT-13B, sharegpt, n 1", "OPT-13B, sharegpt, n 2")
    assert isinstance(alone, LinePanel)
    assert [line.label for line in alone.lines] == [
        "Paged (vLLM) block size 16",
        "Paged (vLLM) block size 128",
    ]
    looks = [line.look for line in alone.lines]
    assert len({(look.color, look.marker) for look in looks if look}) == 2


def test_memory_bars_fill_the_pool_and_are_those_of_the_tables(sweep: list[SavedRun]) -> None:
    (panel,) = chart_of("memory", sweep).panels
    assert isinstance(panel, BarPanel)
    assert panel.y.label == "KV cache usage (%), mean over time"
    columns = list(zip(*(series.values for series in panel.bars), strict=True))
    assert [sum(column) for column in columns] == pytest.approx([100.0] * len(sweep))
    assert sorted(panel.bars[0].values) == sorted(run.values["kv_token_states_pct"] for run in sweep)
    (batch,) = chart_of("batch", sweep).panels
    assert batch.y.label == "Batched requests, mean over iterations"


def test_savings_are_of_runs_that_share(tmp_path: Path, sweep: list[SavedRun]) -> None:
    with pytest.raises(PlotError, match="no run shares blocks"):
        chart_of("savings", sweep)
    shared = [small_run(tmp_path / f"n{n}", n=n, temperature=1.0) for n in (4, 2)]
    (panel,) = chart_of("savings", [*sweep, *shared]).panels
    assert isinstance(panel, BarPanel)
    two, four = panel.bars[0].values
    assert 0 < two < four


def test_preemptions_are_marked_in_the_timeline(tmp_path: Path) -> None:
    run = small_run(tmp_path / "tight", rate=4.0, kv_slots=3_008)
    (panel,) = chart_of("timeline", [run]).panels
    assert isinstance(panel, AreaPanel)
    assert run.preemptions is not None
    assert panel.marks == tuple(dict.fromkeys(run.preemptions["t_s"]))
    assert panel.curve.label == "Waiting requests"


def test_only_fitting_kinds_are_drawn_unasked(sweep: list[SavedRun]) -> None:
    assert fitting_kinds(sweep) == ["latency", "memory", "batch", "cdf", "timeline"]
    assert "latency" not in fitting_kinds(sweep[:1])
    many = sweep * 7
    assert fitting_kinds(many) == ["latency"]
    with pytest.raises(PlotError, match=f"at most {MAX_RUNS['timeline']} runs, and there are 35"):
        chart_of("timeline", many)
    with pytest.raises(PlotError, match="unknown plot 'pie'"):
        chart_of("pie", sweep)
