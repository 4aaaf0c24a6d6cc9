"""Capacity: the highest rate, or the smallest KV pool, with which a system meets a latency bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.runs.bisection import bisect, outward
from pagedbench.runs.parallel import Failure
from pagedbench.tools.capacity.probe import Crashed, Probe, run_probe
from pagedbench.tools.capacity.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.runs.criterion import Criterion
    from pagedbench.runs.limits import Limit
    from pagedbench.runs.parallel import Stop
    from pagedbench.tools.capacity.probe import Search


@dataclass(frozen=True, slots=True)
class Capacity:
    """The loads between which a criterion's limit lies.

    Attributes:
        sustained: the run at the highest load tried that meets the criterion; None: not even the lowest.
        missed: the run at the lowest load tried that does not; None: every load does.
        compared_length: runs that were longer by this factor agree about both ends; None: the user chose
            the length of the runs.
        is_widened: they did not agree about the ends that bisection found.
    """

    criterion: Criterion
    sustained: Probe | None
    missed: Probe | None
    compared_length: int | None = None
    is_widened: bool = False

    @property
    def limit(self) -> Limit | None:
        """What limits the system, from the run that missed."""
        return self.missed.results[self.criterion].limit if self.missed else None


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search: a capacity for every criterion, and every run by length and load."""

    capacities: tuple[Capacity, ...]
    probes: tuple[Probe, ...]


def search_capacity(search: Search, stop: Stop) -> Found | Failure | None:
    """Find the capacity for every criterion. If a run crashes, a Failure; None: `stop` ended the search."""
    serve = serving(search, stop)
    probes: dict[tuple[int, float], Probe] = {}

    def probe(length: int, load: float) -> Probe:
        if (length, load) not in probes:
            probes[length, load] = run_probe(search, serve, load, length)
        if stop.is_set():
            raise _Stopped
        return probes[length, load]

    try:
        capacities = tuple(_find(search, criterion, probe) for criterion in search.criteria)
    except _Stopped:
        return None
    except Crashed as crash:
        return Failure(str(crash))
    return Found(capacities, tuple(probes[key] for key in sorted(probes)))


class _Stopped(Exception):
    """The search was told to end."""


def _find(search: Search, criterion: Criterion, probe: Callable[[int, float], Probe]) -> Capacity:
    """Bisect; then widen the interval until longer runs, too, meet the criterion only at its lower end.

    Near the limit single runs differ by chance, so that lengths may disagree about a load either way.
    """
    lengths = [1] if search.compared_length is None else [1, search.compared_length]

    def answers(load: float) -> set[bool]:
        return {probe(length, load).results[criterion].is_met for length in lengths}

    ends = {"lowest": search.lowest, "highest": search.highest}
    low, high = interval = bisect(
        lambda load: probe(1, load).results[criterion].is_met,
        start=search.start,
        tolerance=search.tolerance,
        **ends,
    )
    step = 1 + search.tolerance
    if low is not None:
        low = outward(lambda load: answers(load) == {True}, low, 1 / step, **ends)
    if high is not None:
        high = outward(lambda load: answers(load) == {False}, high, step, **ends)
    return Capacity(
        criterion,
        sustained=None if low is None else probe(1, low),
        missed=None if high is None else probe(1, high),
        compared_length=search.compared_length,
        is_widened=(low, high) != interval,
    )
