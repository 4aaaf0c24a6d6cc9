"""Judgement: the verdict of a check on one thing, in a form that all reports for CI can show."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """The verdict of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number before and after.

    Attributes:
        name: name of a metric or a counter.
        unit: "" for counts and shares.
        better: "higher", "lower", or "-" where neither is.
        before, after: in the unit; None where it is not defined.
    """

    name: str
    unit: str
    better: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one thing, with its reason.

    Attributes:
        suite: the group that it belongs to, such as "check".
        name: what was checked; unique within the suite.
        message: a sentence, never empty.
        figures: the numbers on which it rests.
    """

    suite: str
    name: str
    outcome: Outcome
    message: str
    figures: tuple[Figure, ...]
