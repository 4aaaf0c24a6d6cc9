"""Fig. 2, 13 and 15: the paper's numbers from its own lengths, its picture from the bundled ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.tools.paper.figure import Options
from pagedbench.tools.paper.figures import FIGURES
from pagedbench.tools.paper.lengths import Lengths
from pagedbench.tools.paper.window_figure import SAVING, quantities_of
from pagedbench.tools.paper.window_figures import ALPACA_15, FIG15A, FIG15B
from pagedbench.workload.arrivals import FixedArrivals
from tools.paper.results import outcome_of, papers_lengths

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.tools.paper.window_figure import Bar, WindowFigure


def cut_short(figure: WindowFigure, start: float, end: float) -> WindowFigure:
    """The figure from a shorter window.

    `reproduce` takes whole windows. A mean over iterations is near its limit long before they end.
    """

    def shorter(bar: Bar) -> Bar:
        return replace(bar, experiment=replace(bar.experiment, duration=end, window=(start, end)))

    return replace(figure, bars=tuple(map(shorter, figure.bars)))


@pytest.mark.parametrize(("name", "start", "end"), [("fig13a", 300.0, 800.0), ("fig13b", 300.0, 450.0)])
def test_the_papers_lengths_give_the_papers_numbers(
    name: str, start: float, end: float, test_data: Path
) -> None:
    """Fig. 2 is compared in `test_results`."""
    judged = tuple(bar for bar in FIGURES[name].bars if bar.printed)
    figure = cut_short(replace(FIGURES[name], bars=judged), start, end)
    outcome = outcome_of(figure, Options(papers_lengths(test_data)))
    assert len(outcome.claims) == 4
    assert [claim for claim in outcome.claims if not claim.holds] == []


@pytest.mark.parametrize(
    ("name", "start", "end", "allowed"), [("fig2", 300.0, 600.0, "±5"), ("fig13a", 300.0, 600.0, "±12%")]
)
def test_the_bundled_lengths_give_the_same_picture(
    name: str, start: float, end: float, allowed: str
) -> None:
    outcome = outcome_of(cut_short(FIGURES[name], start, end))
    assert {claim.expected.allowed for claim in outcome.claims} == {allowed}
    assert [claim for claim in outcome.claims if not claim.holds] == []
    assert any("Synthesized lengths" in fact for fact in outcome.facts)


def test_tolerances_of_the_papers_own_lengths_are_those_that_were_asked_for() -> None:
    for system, amount in (("paged", 0.10), ("orca-max", 0.05), ("orca-oracle", 0.05)):
        (bar,) = (bar for bar in FIGURES["fig13a"].bars if bar.system == system)
        assert bar.tolerance[""].amount == amount
    (bar,) = (bar for bar in FIGURES["fig2"].bars if bar.system == "paged")
    assert (bar.tolerance["token states"].amount, bar.tolerance[""].amount) == (0.5, 1.0)


def test_without_host_time_nothing_queues_on_alpaca() -> None:
    figure = FIGURES["fig13b"]
    paged = tuple(bar for bar in figure.bars if bar.system == "paged")
    outcome = outcome_of(cut_short(replace(figure, bars=paged), 20.0, 60.0))
    running = {row["group"]: row["ours"] for row in outcome.tables[""]}
    assert running["without host time"] < 0.5 * running["Alpaca"]
    assert len(outcome.claims) == 1  # what is without is shown, and not judged


def test_parallel_samples_save_what_the_paper_prints(test_data: Path) -> None:
    alpaca, sharegpt = FIG15A.bars[:3], FIG15A.bars[3:]  # forty requests for one
    brief = cut_short(replace(FIG15A, bars=alpaca), 50.0, 100.0)
    longer = cut_short(replace(FIG15A, bars=sharegpt), 200.0, 600.0)
    outcome = outcome_of(replace(brief, bars=brief.bars + longer.bars), Options(papers_lengths(test_data)))
    assert [claim.expected.paper for claim in outcome.claims] == [6.09, 8.53, 9.79, 17.6, 26.4, 29.4]
    assert [claim.expected.allowed for claim in outcome.claims] == 3 * ["±1.5"] + 3 * ["±2.5"]
    assert [claim for claim in outcome.claims if not claim.holds] == []


def test_beams_save_much_more_the_wider_the_search() -> None:
    claims = outcome_of(cut_short(FIG15B, 10.0, 30.0)).claims
    assert [claim.expected.paper for claim in claims] == [37.56, 53.13, 55.16]
    assert [claim.ours for claim in claims] == sorted(claim.ours for claim in claims)
    assert claims[0].ours > 25


def test_the_saving_is_one_less_the_inverse_of_the_mean_ratio() -> None:
    experiment = replace(ALPACA_15, n=2, window=(0.0, 5.0))
    requests = [Request(i, 0.1 * i, Prompt(32, seed=i), SamplingParams(12, 2)) for i in range(20)]
    record = experiment.engine("paged").run(FixedArrivals(requests))
    steps, block = record.steps, 16
    tables = (steps["kv_shared"] + record.capacity - steps["kv_free"]) // block  # logical blocks
    ratios = tables * block / (record.capacity - steps["kv_free"])
    saving = quantities_of(experiment, record)[SAVING]
    assert saving == pytest.approx(100 - 100 / np.mean(ratios[steps.start <= 5.0]))
    assert saving > 20  # two blocks of three belong to the prompt


def test_a_limit_for_every_system_replaces_the_authors() -> None:
    options = Options(Lengths(), max_num_seqs=64)
    limits = {piece.arguments[0].plan(piece.arguments[1]).config.max_num_seqs
              for piece in FIGURES["fig2"].pieces(options)}  # fmt: skip
    assert limits == {64}
    usual = {piece.arguments[1]: piece.arguments[0].plan(piece.arguments[1]).config.max_num_seqs
             for piece in FIGURES["fig2"].pieces(Options())}  # fmt: skip
    assert usual == {"paged": 2048, "orca-max": 256, "orca-pow2": 256, "orca-oracle": 256}
