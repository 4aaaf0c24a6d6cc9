"""Claims hold where ours is as near as they allow, and nowhere else."""

from __future__ import annotations

import pytest

from pagedbench.tools.paper.claim import Between, Claim, Near, Tolerance


def test_tolerances() -> None:
    assert not Tolerance(0.5).covers(10.0, 10.6)
    assert Tolerance(0.6 + 1e-9).covers(10.0, 10.6)
    assert Tolerance(0.06 + 1e-9, is_relative=True).covers(10.0, 9.4)
    assert not Tolerance(0.05, is_relative=True).covers(10.0, 9.4)


@pytest.mark.parametrize(
    ("expected", "ours", "verdict", "paper", "allowed"),
    [
        (Near(10.0, Tolerance(0.5)), 10.4, "holds", 10.0, "±0.5"),
        (Near(10.0, Tolerance(0.05, is_relative=True)), 10.6, "missed", 10.0, "±5%"),
        (Between(1.7, 2.7), 1.7, "holds", "1.7 to 2.7", "1.7 to 2.7"),
        (Between(1.7, 2.7), 2.71, "missed", "1.7 to 2.7", "1.7 to 2.7"),
        (Between(None, 1.1, "coincide"), 1.11, "missed", "coincide", "at most 1.1"),
        (Between(2.0, None, "far below"), 1.99, "missed", "far below", "at least 2"),
    ],
)
def test_verdicts(
    expected: Near | Between, ours: float, verdict: str, paper: float | str, allowed: str
) -> None:
    claim = Claim("fig", "paged", "share", "%", expected, ours)
    assert (claim.verdict, claim.holds) == (verdict, verdict == "holds")
    assert (expected.paper, expected.allowed) == (paper, allowed)


def test_nothing_covers_what_is_no_number() -> None:
    assert not Near(1.0, Tolerance(0.5)).covers(float("nan"))
    assert not Between(1.0, None).covers(float("nan"))
    assert not Between(1.0, 2.0).covers(float("inf"))
