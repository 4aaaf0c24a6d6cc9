"""Fig. 1, 11, 18, 19, and claims across figures."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.tools.paper.cross_claims import cross_claims
from pagedbench.tools.paper.fig1 import CROWD, throughput
from pagedbench.tools.paper.fig18 import SIZES
from pagedbench.tools.paper.fig19 import OPT_13B, recovery_times
from pagedbench.tools.paper.figure import Options
from pagedbench.tools.paper.figures import FIGURES, find_figures
from pagedbench.tools.paper.lengths import Lengths
from tools.paper.results import outcome_of

if TYPE_CHECKING:
    from pathlib import Path


def test_parameters_take_two_thirds_of_the_card() -> None:
    figure = FIGURES["fig1"]
    found = throughput(replace(CROWD, max_num_seqs=4), "paged", Lengths(), 0)
    results = {piece.name: found for piece in figure.pieces(Options())}
    outcome = figure.outcome(Options(), results)
    assert [claim.holds for claim in outcome.claims] == [True, True]
    shares = [row["share_of_40_gb_pct"] for row in outcome.tables[""]]
    assert len(shares) == 4
    assert sum(shares) < 107  # of the nominal 40 GB; the card has 6 % more


def test_a_larger_batch_gives_more_throughput_until_memory_ends_it() -> None:
    few, many = (
        throughput(replace(CROWD, max_num_seqs=limit), "orca-max", Lengths(), 0) for limit in (4, 40)
    )
    assert few["running_mean"] == pytest.approx(4, abs=0.1)
    assert many["running_mean"] == pytest.approx(7, abs=0.2)  # 7 requests of 2048 tokens fill the pool
    paged = throughput(replace(CROWD, max_num_seqs=40), "paged", Lengths(), 0)
    assert paged["output_tokens_per_s"] > 2 * many["output_tokens_per_s"]
    assert paged["running_mean"] > 20


def test_lengths_have_the_papers_means() -> None:
    outcome = outcome_of(FIGURES["fig11"])
    assert [claim.holds for claim in outcome.claims] == 4 * [True]
    for trace in ("sharegpt", "alpaca"):
        for kind in ("prompt", "output"):
            shares = [
                row["share"] for row in outcome.tables[""] if (row["trace"], row["kind"]) == (trace, kind)
            ]
            assert sum(shares) == pytest.approx(1.0)


def test_swapping_small_blocks_is_slow_and_recomputing_does_not_mind() -> None:
    times = recovery_times(OPT_13B)
    assert len(set(times["recompute"].values())) == 1
    swap = list(times["swap in and out"].values())
    assert swap == sorted(swap, reverse=True)
    assert swap[0] == pytest.approx(2 * (80 * 256 * 3e-3 + 256 * 819_200 / 25e6), rel=1e-6)  # ms


def test_block_sizes_cost_what_they_cost_in_any_run() -> None:
    figure = FIGURES["fig18b"]
    experiments = {piece.name: piece.arguments[0] for piece in figure.pieces(Options())}
    for size in SIZES:
        plan = experiments[f"ShareGPT {size}"].plan("paged")
        options = RunConfig(
            model="opt-13b",
            device="sim:a100-40gb",
            cost_model="vllm-2023",
            block_size=size,
            max_num_seqs=2048,
        )
        assert plan.step_times == make_plan(options).step_times


def test_large_blocks_hurt_alpaca() -> None:
    figure = FIGURES["fig18b"]
    latencies = {
        "ShareGPT": {1: 0.4, 16: 0.2, 32: 0.2, 128: 0.19},
        "Alpaca": {1: 0.3, 16: 0.2, 32: 0.21, 128: 0.9},
    }
    assert [claim.holds for claim in figure.judge(latencies)] == 4 * [True]
    latencies["Alpaca"][128] = 0.1
    assert [claim.holds for claim in figure.judge(latencies)] == [True, False, False, True]


def test_kernels_are_measured_by_the_kernels_command(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"kernels": "native", "form": "paged", "dtype": "float32", "batch": 8, "context": 64,
           "block_size": 16, "time_median_us": 12.0, "over_contiguous": 1.22}  # fmt: skip
    rows = [row, {**row, "form": "contiguous", "over_contiguous": None}, {**row, "kernels": "torch"}]

    def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "pagedbench", "kernels"]
        return subprocess.CompletedProcess(command, 0, json.dumps(rows), "")

    monkeypatch.setattr(subprocess, "run", answer)
    outcome = outcome_of(FIGURES["fig18a"])
    assert [claim.ours for claim in outcome.claims] == [1.22]
    assert [row["form"] for row in outcome.tables[""]] == ["paged", "contiguous"]


def test_a_failing_kernels_command_is_told() -> None:
    (piece,) = FIGURES["fig18a"].pieces(Options())
    assert piece.is_measured


def test_claims_across_figures_need_all_of_them() -> None:
    panels = {f"fig12{letter}": {"fastertransformer": 10.0, "orca-oracle": 1.8} for letter in "abcdef"}
    panels["fig12f"]["orca-oracle"] = 1.1
    panels["fig12b"]["fastertransformer"] = 21.0
    largest, less = cross_claims(panels)
    assert (largest.ours, largest.spread, largest.holds) == (21.0, (10.0, 21.0), True)
    assert less.holds
    del panels["fig12b"]
    assert [claim.quantity for claim in cross_claims(panels)] == [less.quantity]
    assert cross_claims({"fig14a": {"orca-oracle": 1.4}}) == []
    orcas = {"orca-oracle": 2.0, "orca-pow2": 2.0, "orca-max": 2.4}
    (apart,) = cross_claims({"fig17": orcas})
    assert not apart.holds


def test_names_of_figures() -> None:
    def names(*wanted: str) -> list[str]:
        found = find_figures(list(wanted))
        assert not isinstance(found, str)
        return [figure.name for figure in found]

    assert names("fig12") == [f"fig12{letter}" for letter in "abcdef"]
    assert names("fig2", "fig1", "fig2") == ["fig1", "fig2"]
    assert len(names("all")) == len(FIGURES) == 26
    assert find_figures(["fig3"]) == "fig3"


def test_every_figure_has_pieces_of_different_names(tmp_path: Path) -> None:
    for figure in FIGURES.values():
        pieces = [piece.name for piece in figure.pieces(Options())]
        assert len(pieces) == len(set(pieces)) > 0
