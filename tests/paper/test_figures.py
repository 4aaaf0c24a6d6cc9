"""Every figure: the numbers of the paper, from its own lengths and from the bundled ones."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pagedbench.paper import fig15a, fig15b
from pagedbench.paper.claim import Claim, Tolerance
from pagedbench.paper.figures import FIGURES
from pagedbench.paper.sharing import saving
from pagedbench.workload.dataset import load_dataset
from pagedbench.workload.rows import Row

if TYPE_CHECKING:
    from pathlib import Path

ROW = Row(32, 12)
SHAREGPT_LENGTHS = "sharegpt/sharegpt_opt_lengths.csv.gz"
ALPACA_LENGTHS = "alpaca/alpaca_lengths_opt.csv.gz"


def alpaca_rows(test_data: Path) -> list[Row]:
    """Instruction and input, as the paper counted them; the file's columns are its own."""
    with gzip.open(test_data / ALPACA_LENGTHS, "rt") as file:
        return [Row(int(row["prompt_tokens"]), int(row["output_tokens"])) for row in csv.DictReader(file)]


@pytest.mark.parametrize(("figure", "number"), [("fig2", 14), ("fig13a", 4)])
def test_the_papers_lengths_give_the_papers_numbers(figure: str, number: int, test_data: Path) -> None:
    rows = load_dataset(test_data / SHAREGPT_LENGTHS).rows
    claims = list(FIGURES[figure].claims(rows, seed=0, are_drawn=False))
    assert len(claims) == number
    assert [claim for claim in claims if not claim.holds] == []


@pytest.mark.parametrize(("figure", "allowed"), [("fig2", "5"), ("fig13a", "12%")])
def test_the_bundled_lengths_give_the_same_picture(figure: str, allowed: str) -> None:
    claims = list(FIGURES[figure].claims(load_dataset("sharegpt").rows, seed=0, are_drawn=True))
    assert {str(claim.tolerance) for claim in claims} == {allowed}
    assert [claim for claim in claims if not claim.holds] == []


def test_parallel_samples_of_alpaca_save_what_the_paper_prints(test_data: Path) -> None:
    claims = list(fig15a.claims(alpaca_rows(test_data), seed=0, are_drawn=False))
    assert [claim.paper for claim in claims] == [6.09, 8.53, 9.79, 17.6, 26.4, 29.4]
    assert {str(claim.tolerance) for claim in claims[:3]} == {"1.5"}
    assert [claim for claim in claims if not claim.holds] == []


def test_parallel_samples_of_sharegpt_save_within_the_papers_range(test_data: Path) -> None:
    rows = load_dataset(test_data / SHAREGPT_LENGTHS).rows
    claims = list(fig15a.sharegpt_claims(rows, seed=0, are_drawn=False))
    assert {str(claim.tolerance) for claim in claims} == {"2.5"}
    assert [claim for claim in claims if not claim.holds] == []
    assert all(15.0 < claim.ours < 32.0 for claim in claims)  # 16.2 to 30.5


def test_beams_save_much_more_the_wider_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    brief = replace(fig15b.EXPERIMENT, duration=30.0, window=(10.0, 30.0))
    monkeypatch.setattr(fig15b, "EXPERIMENT", brief)
    claims = list(fig15b.claims(load_dataset("alpaca").rows, seed=0, are_drawn=True))
    assert [claim.paper for claim in claims] == [37.56, 53.13, 55.16]
    assert [claim for claim in claims if not claim.holds] == []
    assert [claim.ours for claim in claims] == sorted(claim.ours for claim in claims)


def test_the_saving_is_one_less_the_inverse_of_the_mean_ratio() -> None:
    record = next(iter(replace(fig15a.EXPERIMENT, duration=0.5, window=(0.0, 5.0), n=2).run([ROW], 0)))[1]
    steps, block = record.steps, 16
    tables = (steps["kv_shared"] + record.capacity - steps["kv_free"]) // block  # logical blocks
    ratios = tables * block / (record.capacity - steps["kv_free"])
    experiment = replace(fig15a.EXPERIMENT, window=(0.0, 5.0))
    inside = steps.start <= 5.0
    assert saving(experiment, record) == pytest.approx(100 - 100 / np.mean(ratios[inside]))
    assert saving(experiment, record) > 20  # two blocks of three belong to the prompt


def test_tolerances() -> None:
    claim = Claim("fig", "paged", "share", "%", paper=10.0, ours=10.6, tolerance=Tolerance(0.5))
    assert not claim.holds
    assert Tolerance(0.6 + 1e-9).covers(claim.paper, claim.ours)
    assert Tolerance(0.06 + 1e-9, is_relative=True).covers(10.0, 9.4)
    assert not Tolerance(0.05, is_relative=True).covers(10.0, 9.4)
