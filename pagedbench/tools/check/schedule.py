"""The first difference between two schedules of a case: admissions, preemptions, endings and slots."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pagedbench.runs.numbers import counted, number
from pagedbench.tools.check.watch import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.tools.check.footprint import Checkpoint, Footprint
    from pagedbench.tools.check.watch import Event

Key: TypeAlias = tuple[int, EventKind, int]
"""Iteration, kind, request."""

PHRASES = {
    EventKind.ADMITTED: "is admitted",
    EventKind.LEFT: "leaves",
    EventKind.RECOMPUTED: "is preempted and recomputed",
    EventKind.SWAPPED_OUT: "is preempted and swapped out",
    EventKind.SWAPPED_IN: "is swapped in",
}

TOPICS = {
    EventKind.ADMITTED: "admission",
    EventKind.SWAPPED_IN: "swapping in",
    EventKind.LEFT: "completion",
}
"""Kinds other than preemptions. If several differ in one iteration, the first one is named."""


@dataclass(frozen=True, slots=True)
class Movement:
    """The first difference of one kind: its iteration (-1: before the run), and part of a sentence."""

    iteration: int
    text: str


def first_other_schedule(before: Footprint, after: Footprint) -> Movement | None:
    """The first iteration with other events, and which events differ."""
    was, now = _keys(before.events), _keys(after.events)
    end = min(side.num_steps if side.crash else math.inf for side in (before, after))
    others = {key for key in was ^ now if key[0] < end}  # a crash ends all requests
    if not others:
        return None
    iteration = min(key[0] for key in others)
    gone = sorted(key for key in was - now if key[0] == iteration)
    new = sorted(key for key in now - was if key[0] == iteration)
    where = f"at iteration {iteration}{_time(after, iteration)}"
    kinds = {key[1] for key in (*gone, *new)}
    if any(kind.is_preemption for kind in kinds):
        return Movement(iteration, _victims(gone, new, where) + _num_affected(was, now))
    kind, topic = next((kind, topic) for kind, topic in TOPICS.items() if kind in kinds)
    return Movement(iteration, f"{topic} changed: {_moved(was, now, gone, new, kind, where)}")


def _keys(events: Iterable[Event]) -> set[Key]:
    return {(event.iteration, event.kind, event.request) for event in events}


def _time(footprint: Footprint, iteration: int) -> str:
    """The time of an iteration in words, interpolated linearly between two checkpoints."""
    points = [(point.iteration, point.time / 1e6) for point in footprint.checkpoints]
    for (first, start), (last, end) in itertools.pairwise(points):
        if first <= iteration <= last:
            return f" (near t = {number(start + (end - start) * (iteration - first) / (last - first))} s)"
    return ""


def _victims(gone: list[Key], new: list[Key], where: str) -> str:
    old, fresh = _preempted(gone), _preempted(new)
    if old and old == fresh:
        kind = next(key[1] for key in new if key[1].is_preemption)
        return f"preemption changed: {where} {_named(fresh)} {PHRASES[kind]}, unlike in the baseline"
    if old and fresh:
        return f"other victims: {where} {_named(fresh)} {_are(fresh)} preempted instead of {_named(old)}"
    if fresh:
        return (
            f"preemption changed: {where} {_named(fresh)} {_are(fresh)} preempted, and no request in the "
            "baseline"
        )
    return f"preemption changed: {where} {_named(old)} {_are(old)} no longer preempted"


def _preempted(keys: Iterable[Key]) -> list[int]:
    return [request for _, kind, request in keys if kind.is_preemption]


def _named(requests: list[int]) -> str:
    if len(requests) == 1:
        return f"request {requests[0]}"
    return f"requests {', '.join(map(str, requests[:-1]))} and {requests[-1]}"


def _are(requests: list[int]) -> str:
    return "is" if len(requests) == 1 else "are"


def _num_affected(was: set[Key], now: set[Key]) -> str:
    """The number of requests that are preempted at other times, in words."""
    others = set(_preempted(was ^ now))
    return (
        f" ({counted(len(others), 'request')} in all preempted at other times)" if len(others) > 1 else ""
    )


def _moved(
    was: set[Key], now: set[Key], gone: list[Key], new: list[Key], kind: EventKind, where: str
) -> str:
    """A request's event of this kind, and its time in the other run, in words."""
    for keys, others, is_new in ((new, was, True), (gone, now, False)):
        requests = [request for _, other, request in keys if other is kind]
        if requests:
            request = requests[0]
            when = _when(others, keys[0][0], kind, request)
            if is_new:
                return f"{where} request {request} {PHRASES[kind]}, in the baseline {when}"
            return f"request {request} {PHRASES[kind]} {when}, in the baseline {where}"
    raise AssertionError("no event of this kind differs")


def _when(others: set[Key], iteration: int, kind: EventKind, request: int) -> str:
    """The nearest iteration in which the other run has the event."""
    steps = [step for step, other, number in others if other == kind and number == request]
    if not steps:
        return "never"
    return f"at iteration {min(steps, key=lambda step: abs(step - iteration))}"


def first_other_placement(before: Footprint, after: Footprint, until: float) -> Movement | None:
    """The first request that starts at another slot, or the first iterations whose slots differ.

    `until`: an iteration; later differences may be a consequence of it.
    """
    slots = {(event.iteration, event.kind, event.request): event.slot for event in before.events}
    found = math.inf, ""
    for event in after.events:
        slot = slots.get((event.iteration, event.kind, event.request), event.slot)
        if slot != event.slot:
            where = f"request {event.request} starts at slot {event.slot} instead of {slot}"
            found = event.iteration, f"placement changed: at iteration {event.iteration} {where}"
            break
    for was, now in whole_pairs(before, after, min(until, found[0])):
        if was.placements != now.placements:
            where = f"requests lie in other slots, first in the iterations from {now.iteration} on"
            return Movement(now.iteration, f"placement changed: {where}")
    return Movement(int(found[0]), found[1]) if found[0] < until else None


def whole_pairs(before: Footprint, after: Footprint, until: float) -> list[tuple[Checkpoint, Checkpoint]]:
    """Pairs of checkpoints of both whose iterations end before iteration `until`."""
    ends = [point.iteration for point in after.checkpoints[1:]]
    ends.append(after.num_steps)
    pairs = zip(before.checkpoints, after.checkpoints, ends, strict=False)
    return [(was, now) for was, now, end in pairs if end <= until]
