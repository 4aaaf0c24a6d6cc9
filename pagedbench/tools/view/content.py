"""What the page of `pagedbench view` holds: the run's facts, and columns of numbers in compact text."""

from __future__ import annotations

import base64
import zlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from pagedbench.config import is_simulated
from pagedbench.metrics.event_log import NONE, TIERS, Event
from pagedbench.runs.events_file import read_events
from pagedbench.runs.numbers import counted, number
from pagedbench.tools.view.rectangles import (
    Rectangles,
    boundaries,
    merged,
    rectangles_of,
    thinned,
    with_usable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from pagedbench.metrics.event_log import EventTable
    from pagedbench.runs.events_file import Layout
    from pagedbench.runs.saved import SavedRun

    Integers = NDArray[np.int64]

MAX_RECTANGLES, MAX_STEPS, MAX_MARKS = 250_000, 50_000, 50_000
"""The most rectangles, iterations, and preemptions or evictions in a page; it says what was left out."""

SERIES = ("running", "waiting", "swapped", "kv_token_states", "kv_reserved", "kv_internal", "kv_external",
          "kv_free")  # fmt: skip


def page_content(run: SavedRun) -> dict[str, Any]:
    """A JSON object: `facts` and `notes` in words, `pool`, and `columns` in the form of `encoded`.

    Raises:
        ConfigError: the run has no events, or a file of it is damaged.
    """
    table, layout = read_events(run.folder)
    steps, requests = run.steps, run.requests
    starts = steps["t_s"].to_numpy(dtype=np.float64)
    ends = starts + steps["step_ms"].to_numpy(dtype=np.float64) / 1000
    moments = boundaries(table, starts, ends)
    rectangles = rectangles_of(table, layout, moments, len(starts))
    whole_len = (requests["prompt_len"] + requests["output_len"]).tolist()
    is_end = table.event == Event.FINISH
    left = dict(zip(table.request_id[is_end].tolist(), moments[is_end].tolist(), strict=True))
    with_usable(
        rectangles, layout, dict(zip(requests["request_id"].tolist(), whole_len, strict=True)), left
    )
    num_all = len(rectangles)
    rectangles, lost = thinned(merged(rectangles, layout), MAX_RECTANGLES)
    preemptions, evictions = _preemptions(run, starts), _evictions(table, moments)
    notes = [f"{len(table):,} events; {num_all:,} stretches of ownership."]
    notes += _left_out(len(rectangles), lost, len(starts), preemptions, evictions)
    columns = {
        **_prefixed("rect", {item.name: getattr(rectangles, item.name) for item in fields(Rectangles)}),
        **_prefixed("step", _steps(steps, starts, ends)),
        **_prefixed("request", _requests(requests)),
        **_prefixed("preemption", _first(preemptions)),
        **_prefixed("eviction", _first(evictions)),
    }
    return {
        "title": f"{run.system}: the KV pool over time",
        "facts": facts_of(run, layout),
        "is_simulated": is_simulated(run.config["device"]),
        "notes": notes,
        "pool": _pool(table, layout, len(starts)),
        "columns": {name: encoded(column) for name, column in columns.items()},
    }


def facts_of(run: SavedRun, layout: Layout) -> list[str]:
    """What ran, in words."""
    config, about = run.config, run.summary["run"]
    rate = run.rate
    offered = "its own arrival times" if rate is None else f"{number(rate)} requests/s"
    unit = "slots" if layout.is_extents else f"blocks of {layout.block_size} tokens"
    return [
        str(config["model"]),
        str(config["device"]),
        f"{about['trace']}, {offered}, seed {config['seed']}",
        f"{layout.num_blocks:,} {unit}",
        counted(int(run.values["completed"]), "request"),
    ]


def _left_out(num_kept: int, lost: float, num_steps: int, *marks: Mapping[str, NDArray[Any]]) -> list[str]:
    notes = []
    if lost:
        notes.append(
            f"Thinned: the {num_kept:,} largest rectangles are drawn; the others, "
            f"{100 * lost:.2g} % of blocks x time, are left out."
        )
    if num_steps > MAX_STEPS:
        notes.append(f"Thinned: the curves show {MAX_STEPS:,} of {num_steps:,} iterations.")
    for what, table in zip(("preemptions", "evictions"), marks, strict=True):
        if len(table["step"]) > MAX_MARKS:
            notes.append(f"Thinned: the first {MAX_MARKS:,} of {len(table['step']):,} {what} are listed.")
    return notes


def _pool(table: EventTable, layout: Layout, num_steps: int) -> dict[str, Any]:
    on_host = table.tier == TIERS.index(TIERS[-1])
    return {
        "block_size": layout.block_size,
        "num_blocks": layout.num_blocks,
        "num_host_blocks": int(table.block[on_host].max(initial=NONE)) + 1,
        "is_extents": layout.is_extents,
        "num_steps": num_steps,
    }


def _steps(
    steps: pd.DataFrame, starts: NDArray[np.float64], ends: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    """Some iterations, and the end of the last. Times in microseconds.

    `ended_micros`: when the previous iteration ended, which may be before the next start if the engine was
    idle.
    """
    number = np.unique(np.linspace(0, len(starts) - 1, MAX_STEPS).astype(np.int64))
    if len(starts) <= MAX_STEPS:
        number = np.arange(len(starts))
    times = np.append(starts[number], ends[-1])
    series = {name: steps[name].to_numpy(dtype=np.int64)[number] for name in SERIES}
    number = np.append(number, len(starts))
    ended = np.append(starts[:1], ends)[number]
    micros, ended_micros = (np.round(1e6 * seconds).astype(np.int64) for seconds in (times, ended))
    return {"number": number, "micros": micros, "ended_micros": ended_micros, **series}


def _requests(requests: pd.DataFrame) -> dict[str, NDArray[Any]]:
    times = {name: requests[f"{name}_s"].to_numpy(dtype=np.float32)
             for name in ("arrival", "admit", "first_token", "finish")}  # fmt: skip
    names = ("prompt_len", "output_len", "n", "preemptions", "cached_tokens")
    counts = {name: requests[name].to_numpy(dtype=np.int64) for name in names}
    return {"id": requests["request_id"].to_numpy(dtype=np.int64), **times, **counts}


def _preemptions(run: SavedRun, starts: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    log = run.preemptions
    names = {"step": "step", "victim": "victim_request_id", "cause": "cause_request_id",
             "blocks": "blocks_freed", "lost": "tokens_lost"}  # fmt: skip
    if log is None:
        return {name: np.zeros(0, dtype=np.int64) for name in (*names, "is_swap", "back")}
    table = {name: log[column].to_numpy(dtype=np.int64) for name, column in names.items()}
    resumed = log["resumed_t_s"].to_numpy(dtype=np.float64)
    back = np.searchsorted(starts, resumed - 1e-9)
    table["is_swap"] = (log["mode"] == "swap").to_numpy(dtype=np.int64)
    table["back"] = np.where(np.isnan(resumed), NONE, back)
    return table


def _evictions(table: EventTable, moments: Integers) -> dict[str, NDArray[Any]]:
    """Every evicted block: for which request, whose content it was, and since when it was unused."""
    (rows,) = np.nonzero((table.event == Event.EVICT) | (table.event == Event.FREE))
    latest: dict[tuple[int, int], tuple[int, int]] = {}
    found: list[tuple[int, ...]] = []
    columns = (table.event, table.tier, table.block, table.request_id)
    events = zip(moments[rows].tolist(), *(column[rows].tolist() for column in columns), strict=True)
    for moment, event, tier, block, request in events:
        if event == Event.FREE:
            latest[tier, block] = (request, moment)
        else:
            owner, idle_since = latest.get((tier, block), (NONE, NONE))
            found.append((moment, block, request, owner, idle_since))
    data = np.array(found, dtype=np.int64).reshape(-1, 5).T
    return dict(zip(("step", "block", "cause", "owner", "idle_since"), data, strict=True))


def _first(table: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: column[:MAX_MARKS] for name, column in table.items()}


def _prefixed(prefix: str, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{prefix}_{name}": column for name, column in columns.items()}


def encoded(column: NDArray[Any]) -> dict[str, Any]:
    """A column as text: differences if values never fall, in the smallest type, deflated, as base64."""
    is_delta = False
    if column.dtype.kind == "i" and len(column):
        steps = np.diff(column, prepend=0)
        is_delta = bool(column[0] >= 0 and (steps >= 0).all())
        column = steps if is_delta else column
        kinds = ("u1", "u2", "i4") if column.min() >= 0 else ("i1", "i2", "i4")
        column = column.astype(next(kind for kind in kinds if column.max() <= np.iinfo(kind).max))
    elif column.dtype.kind == "i":
        column = column.astype(np.uint8)
    data = zlib.compress(np.ascontiguousarray(column).astype(column.dtype.newbyteorder("<")).tobytes())
    kind = f"{column.dtype.kind}{column.dtype.itemsize}"
    return {"kind": kind, "is_delta": is_delta, "data": base64.b64encode(data).decode()}
