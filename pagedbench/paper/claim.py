"""Claim: a number that the paper prints, ours beside it, and whether they agree."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far ours may be from the paper's: in the number's own unit, or as a share of it."""

    amount: float
    is_relative: bool = False

    def __str__(self) -> str:
        return f"{self.amount:.0%}" if self.is_relative else f"{self.amount:g}"

    def covers(self, paper: float, ours: float) -> bool:
        bound = self.amount * abs(paper) if self.is_relative else self.amount
        return abs(ours - paper) <= bound


@dataclass(frozen=True, slots=True)
class Claim:
    """One number of one figure."""

    figure: str
    system: str
    quantity: str
    unit: str
    paper: float
    ours: float
    tolerance: Tolerance

    @property
    def holds(self) -> bool:
        return self.tolerance.covers(self.paper, self.ours)
