"""Capacity: the highest rate, or the least KV pool, with which a system meets a latency bound."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pagedbench.backend import load_backend
from pagedbench.experiments.bisection import bisect, bisect_again, spanned
from pagedbench.experiments.probe import Probe, run_probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.experiments.bisection import Interval
    from pagedbench.experiments.criterion import Criterion
    from pagedbench.experiments.limits import Limit
    from pagedbench.experiments.parallel import Stop
    from pagedbench.experiments.probe import Search


@dataclass(frozen=True, slots=True)
class Capacity:
    """Between which loads a criterion's limit lies.

    Attributes:
        sustained: the run at the highest load tried that meets the criterion; None: not even the lowest.
        missed: the run at the lowest load tried that does not; None: every load does.
        compared_length: how many times as long the runs were whose interval this one includes; None: the
            length of the runs was asked for.
        is_widened: the longer runs gave an interval that is not within that of the others.
    """

    criterion: Criterion
    sustained: Probe | None
    missed: Probe | None
    compared_length: int | None = None
    is_widened: bool = False

    @property
    def limit(self) -> Limit | None:
        """What limits the system: seen in the run that missed."""
        return self.missed.results[self.criterion].limit if self.missed else None


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search: a capacity for every criterion, and every run made, by length and load."""

    capacities: tuple[Capacity, ...]
    probes: tuple[Probe, ...]


def search_capacity(search: Search, stop: Stop) -> Found | None:
    """Find what every criterion allows; None if `stop` ended the search."""
    backend = load_backend(search.plan)
    backend.warm_up(search.plan)
    probes: dict[tuple[int, float], Probe] = {}

    def probe(length: int, load: float) -> Probe:
        if (length, load) not in probes:
            probes[length, load] = run_probe(search, backend, load, length, stop)
        if stop.is_set():
            raise _Stopped
        return probes[length, load]

    try:
        capacities = tuple(_find(search, criterion, probe) for criterion in search.criteria)
    except _Stopped:
        return None
    return Found(capacities, tuple(probes[key] for key in sorted(probes)))


class _Stopped(Exception):
    """The search was told to end."""


def _find(search: Search, criterion: Criterion, probe: Callable[[int, float], Probe]) -> Capacity:
    """Bisect; if longer runs give another interval, widen it to include theirs."""

    def is_sustained(length: int, load: float) -> bool:
        return probe(length, load).results[criterion].is_met

    def ends(interval: Interval) -> tuple[Probe | None, Probe | None]:
        low, high = interval
        return None if low is None else probe(1, low), None if high is None else probe(1, high)

    bounds = {"lowest": search.lowest, "highest": search.highest, "tolerance": search.tolerance}
    interval = bisect(partial(is_sustained, 1), start=search.start, **bounds)
    if search.compared_length is None:
        return Capacity(criterion, *ends(interval))
    longer = bisect_again(partial(is_sustained, search.compared_length), interval, **bounds)
    return Capacity(
        criterion,
        *ends(spanned(interval, longer)),
        compared_length=search.compared_length,
        is_widened=spanned(interval, longer) != interval,
    )
