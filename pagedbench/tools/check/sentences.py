"""Explaining the difference between two footprints of a case in one sentence, the cause first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pagedbench.config import DEFAULT_SYSTEM, RunConfig
from pagedbench.runs.numbers import counted, number
from pagedbench.systems import SYSTEMS
from pagedbench.tools.check.schedule import (
    Movement,
    first_other_placement,
    first_other_schedule,
    whole_pairs,
)
from pagedbench.tools.check.watch import EventKind

if TYPE_CHECKING:
    from pagedbench.tools.check.footprint import Footprint

COUNTS = {
    "completed": "completed requests",
    "failed": "failed requests",
    "preemptions_recompute": "preemptions by recomputing",
    "preemptions_swap": "preemptions by swapping",
    "cow_copies": "copied blocks",
    "num_steps": "iterations",
}
"""Metrics that are named if they changed."""

SHOWN_COLUMNS = 4

VALUES = ("running", "waiting", "swapped", "token states", "reserved", "internal", "external", "free")
"""The values of a checkpoint, in words."""


def explain(before: Footprint, after: Footprint) -> str | None:
    """The difference in a sentence; None if the footprints are equal."""
    if before == after:
        return None
    if before.trace != after.trace:
        return "other requests: the trace has other lengths, contents or decoding, so the workload changed"
    if before.arrivals != after.arrivals:
        return "other arrivals: the same requests arrive at other times, so the workload changed"
    clauses = _faults(before, after)
    movements = _movements(before, after)
    clauses += movements[:1] if clauses else movements  # a fault explains all later differences
    counts = _counts(before, after)
    return "; ".join([*clauses, counts] if counts else clauses)


def _faults(before: Footprint, after: Footprint) -> list[str]:
    """Leaks, inconsistent totals and crashes that the baseline does not have."""
    clauses = []
    if after.num_leaked and after.num_leaked != before.num_leaked:
        clauses.append(_leak(before, after))
    elif after.torn is not None and after.torn != before.torn:
        where = f"from before iteration {after.torn_from}"
        clauses.append(f"the memory's totals do not match its tables {where}: {after.torn}")
    if after.crash != before.crash:
        ends = "ended well" if before.crash is None else f"ended with {before.crash}"
        if after.crash is None:
            clauses.append(f"the run ends well, but in the baseline it {ends}")
        else:
            clauses.append(f"the run failed after iteration {after.num_steps - 1} with {after.crash}")
    return clauses


def _leak(before: Footprint, after: Footprint) -> str:
    size = int(after.options.get("block_size") or RunConfig().block_size)
    amount = counted(after.num_leaked, "slot")
    system = SYSTEMS[str(after.options.get("system", DEFAULT_SYSTEM))]
    if system.attention == "paged" and after.num_leaked % size == 0:
        amount = f"{counted(after.num_leaked // size, 'block')} of {counted(size, 'slot')}"
    verb = "is" if amount.startswith("1 ") else "are"
    was = "none" if not before.num_leaked else counted(before.num_leaked, "slot")
    return (
        f"memory leaked: {amount} {verb} owned by no running request at the end, the first of them from "
        f"before iteration {after.leaks_from} (baseline: {was})"
    )


def _movements(before: Footprint, after: Footprint) -> list[str]:
    """The first difference, followed by the first one in the schedule."""
    found: list[Movement] = []
    schedule = first_other_schedule(before, after)
    found += filter(None, (_other_step_times(before, after), schedule))
    for find in (first_other_placement, _other_values, _other_times):  # each may explain the next
        movement = find(before, after, min((item.iteration for item in found), default=math.inf))
        found += [movement] if movement is not None else []
    if not found:
        columns = _other_columns(before, after)
        return [columns] if columns else []
    first = min(found, key=lambda item: item.iteration)  # of several, the earlier cause
    if schedule is None:
        is_whole = before.crash is None and after.crash is None
        return [f"{first.text}; the schedule is the same" if is_whole else first.text]
    running = _running(before, after, schedule.iteration)
    return (
        [f"{first.text}{running}"] if first is schedule else [first.text, f"then {schedule.text}{running}"]
    )


def _running(before: Footprint, after: Footprint, iteration: int) -> str:
    was, now = _num_running(before, iteration), _num_running(after, iteration)
    return "" if was == now else f", so that {counted(now, 'request')} run there instead of {was:,}"


def _num_running(footprint: Footprint, iteration: int) -> int:
    """The number of requests in an iteration."""
    starts = (EventKind.ADMITTED, EventKind.SWAPPED_IN)
    events = [event for event in footprint.events if event.iteration <= iteration]
    return sum(1 if event.kind in starts else -1 for event in events)


def _other_step_times(before: Footprint, after: Footprint) -> Movement | None:
    for name, seconds in after.step_times.items():
        was = before.step_times.get(name)
        if was is not None and was != seconds:
            return Movement(-1, f"step times changed: {name} takes {seconds:g} ms instead of {was:g}")
    return None


def _other_values(before: Footprint, after: Footprint, until: float) -> Movement | None:
    """The first iterations whose integers in steps.csv differ."""
    for was, now in whole_pairs(before, after, until):
        if was.steps == now.steps:
            continue
        for name, old, new in zip(VALUES, was.values, now.values, strict=True):
            if old != new:
                text = f"at iteration {now.iteration} {name} is {new:,} instead of {old:,}"
                return Movement(now.iteration, f"memory or queue figures moved: {text}")
        columns = f"in {_names(before.steps, after.steps)} of steps.csv"
        where = f"first in the iterations from {now.iteration} on"
        return Movement(now.iteration, f"memory or queue figures moved: {columns}, {where}")
    return None


def _other_times(before: Footprint, after: Footprint, until: float) -> Movement | None:
    for was, now in zip(before.checkpoints, after.checkpoints, strict=False):
        if was.time != now.time and now.iteration < until:
            begins = f"{number(now.time / 1e6)} s instead of {number(was.time / 1e6)} s"
            return Movement(now.iteration, f"times moved: iteration {now.iteration} begins at {begins}")
    return None


def _other_columns(before: Footprint, after: Footprint) -> str:
    """Differences that show only in the digests of columns."""
    names = {
        "requests.csv": _names(before.requests, after.requests),
        "steps.csv": _names(before.steps, after.steps),
    }
    moved = [f"{file} {columns}" for file, columns in names.items() if columns]
    return f"figures moved in {' and '.join(moved)}; schedule and placement are the same" if moved else ""


def _names(before: dict[str, str], after: dict[str, str]) -> str:
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    rest = len(names) - SHOWN_COLUMNS
    return ", ".join(names[:SHOWN_COLUMNS]) + (f" and {rest} more" if rest > 0 else "")


def _counts(before: Footprint, after: Footprint) -> str:
    changed = [
        f"{words} {number(before.metrics.get(name))} -> {number(after.metrics.get(name))}"
        for name, words in COUNTS.items()
        if before.metrics.get(name) != after.metrics.get(name)
    ]
    return ", ".join(changed)
