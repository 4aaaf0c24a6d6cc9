"""Pace: how fast memory is read at some moment. On a virtual machine it may change while a program runs.

Two virtual cores that the host places in one group of real cores share that group's way to memory; in two
groups each has its own, and both together read up to twice as fast. Nothing inside can choose.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

LIKE = 1.25
"""Readings within this ratio are one pace: noise is a tenth, and two places differ by half and more."""

Pace: TypeAlias = float
"""Bytes per second."""

Paces: TypeAlias = "tuple[Pace | None, Pace | None]"
"""Before and after something; None where it was not read."""


def alike(one: Pace | None, other: Pace | None) -> bool:
    """Are they one pace? What cannot be read is not said to differ."""
    if one is None or other is None:
        return True
    return max(one, other) <= LIKE * min(one, other)


def usual_pace(paces: Sequence[Pace | None]) -> Pace | None:
    """The middle of the largest set of readings that are alike; of two equally large ones the faster."""
    known = [pace for pace in paces if pace is not None]
    if not known:
        return None
    sets = [[other for other in known if alike(other, pace)] for pace in sorted(known, reverse=True)]
    largest: list[Pace] = max(sets, key=len)
    return median(largest)


def format_pace(pace: Pace | None) -> str:
    """In GB/s."""
    return "an unknown pace" if pace is None else f"{pace / 1e9:.0f} GB/s"
