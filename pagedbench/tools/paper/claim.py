"""Claim: a statement of the paper, our result, and whether they agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

HOLDS, MISSED = "holds", "missed"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far our number may be from the paper's: in its unit, or as a share of it."""

    amount: float
    is_relative: bool = False

    def __str__(self) -> str:
        return f"{self.amount:.0%}" if self.is_relative else f"{self.amount:g}"

    def covers(self, paper: float, ours: float) -> bool:
        bound = self.amount * abs(paper) if self.is_relative else self.amount
        return abs(ours - paper) <= bound


@dataclass(frozen=True, slots=True)
class Near:
    """A number that the paper prints."""

    paper: float
    tolerance: Tolerance

    @property
    def allowed(self) -> str:
        return f"±{self.tolerance}"

    def covers(self, ours: float) -> bool:
        return self.tolerance.covers(self.paper, ours)


@dataclass(frozen=True, slots=True)
class Between:
    """A range that the paper states; either end may be open."""

    low: float | None
    high: float | None
    words: str = ""

    @property
    def paper(self) -> str:
        return self.words or self.allowed

    @property
    def allowed(self) -> str:
        if self.low is None:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"

    def covers(self, ours: float) -> bool:
        return (self.low is None or ours >= self.low) and (self.high is None or ours <= self.high)


Expectation: TypeAlias = Near | Between
"""What the paper says about a number. `paper`: its number or words; `allowed`: how far ours may be off."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of the scorecard.

    Attributes:
        subject: the systems or the panel that it is about.
        ours: our result; `spread`: the lowest and highest if there were several seeds.
        why: what is known about the difference; its cause if the claim is missed.
    """

    figure: str
    subject: str
    quantity: str
    unit: str
    expected: Expectation
    ours: float
    why: str = ""
    spread: tuple[float, float] | None = None

    @property
    def holds(self) -> bool:
        return self.expected.covers(self.ours)

    @property
    def verdict(self) -> str:
        return HOLDS if self.holds else MISSED
