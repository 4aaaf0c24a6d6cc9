"""Fig. 2 and Fig. 13a: the numbers of the paper, from its own lengths and from the bundled ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.paper.claim import Claim, Tolerance
from pagedbench.paper.figures import FIGURES
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from pathlib import Path

REAL_LENGTHS = "sharegpt/sharegpt_opt_lengths.csv.gz"


@pytest.mark.parametrize("figure", FIGURES)
def test_the_papers_lengths_give_the_papers_numbers(figure: str, test_data: Path) -> None:
    rows = load_dataset(test_data / REAL_LENGTHS).rows
    claims = list(FIGURES[figure].claims(rows, seed=0, are_drawn=False))
    assert len(claims) == {"fig2": 14, "fig13a": 4}[figure]
    assert [claim for claim in claims if not claim.holds] == []


@pytest.mark.parametrize(("figure", "allowed"), [("fig2", "5"), ("fig13a", "12%")])
def test_the_bundled_lengths_give_the_same_picture(figure: str, allowed: str) -> None:
    claims = list(FIGURES[figure].claims(load_dataset("sharegpt").rows, seed=0, are_drawn=True))
    assert {str(claim.tolerance) for claim in claims} == {allowed}
    assert [claim for claim in claims if not claim.holds] == []


def test_tolerances() -> None:
    claim = Claim("fig", "paged", "share", "%", paper=10.0, ours=10.6, tolerance=Tolerance(0.5))
    assert not claim.holds
    assert Tolerance(0.6 + 1e-9).covers(claim.paper, claim.ours)
    assert Tolerance(0.06 + 1e-9, is_relative=True).covers(10.0, 9.4)
    assert not Tolerance(0.05, is_relative=True).covers(10.0, 9.4)
