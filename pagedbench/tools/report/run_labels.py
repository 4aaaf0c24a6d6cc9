"""Names and sorts runs by their systems, and by the options in which they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagedbench.config import plain
from pagedbench.show.styles import order_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pagedbench.runs.saved import SavedRun

PANEL_OPTIONS = ("model", "device", "trace", "arrival", "n", "beam_width")
"""Runs that differ in one of these are in different panels, as in the paper's Fig. 12 and 14."""

LINE_OPTIONS = ("memory", "batching", "block_size", "preemption", "victim", "admission", "prefill",
                "prefix_caching", "eviction", "kv_dtype", "kv_slots", "tensor_parallel_size",
                "max_num_seqs", "max_num_batched_tokens", "page_size", "commit_ahead", "kept_pages",
                "label")  # fmt: skip
"""Runs of one system that differ in one of these are different lines."""

RUN_OPTIONS = (*PANEL_OPTIONS, "rate", "seed", *LINE_OPTIONS)
CLEAR_OPTIONS = (*PANEL_OPTIONS[:4], "label", "memory", "batching", "preemption", "prefill")
"""Options whose values are clear without a name."""


def in_order(runs: Sequence[SavedRun]) -> list[SavedRun]:
    """Sort by system, then by the options in which runs differ: numbers by size, 8 before 16."""
    keys = [
        (order_of(run.system), run.system, natural(options))
        for run, options in zip(runs, options_of(runs, RUN_OPTIONS), strict=True)
    ]
    return [runs[index] for index in sorted(range(len(runs)), key=keys.__getitem__)]


def natural(values: Iterable[Any]) -> list[tuple[int, float, str]]:
    """A key for sorting: None first, then numbers by size, then words."""
    return [
        (0, 0.0, "") if value is None
        else (1, float(value), "") if isinstance(value, int | float)
        else (2, 0.0, str(value))
        for value in values
    ]  # fmt: skip


def run_labels(runs: Sequence[SavedRun]) -> list[str]:
    """A name for every run: its system, and the options in which the runs differ."""
    options = options_of(runs, RUN_OPTIONS)
    return [
        " ".join([run.system, differences(own, options, RUN_OPTIONS)]).strip()
        for run, own in zip(runs, options, strict=True)
    ]


def options_of(runs: Sequence[SavedRun], names: Sequence[str]) -> list[tuple[Any, ...]]:
    """The values of some options, by run. A trace is called by its name, not by the path of its file."""
    pools = _pools(runs)

    def value(run: SavedRun, name: str) -> Any:
        if name == "trace":
            return run.manifest["trace"]["name"]
        own = run.config.get(name)
        return pools[own] if name == "kv_slots" and own is not None else own

    return [tuple(value(run, name) for name in names) for run in runs]


def _pools(runs: Sequence[SavedRun]) -> dict[int, int]:
    """Slots of a pool -> its slots before rounding down to whole blocks, whose size differs by run."""
    block_size = max((run.config.get("block_size", 1) for run in runs), default=1)
    pools: dict[int, int] = {}
    whole = 0
    for slots in sorted({run.config.get("kv_slots") or 0 for run in runs}, reverse=True):
        whole = slots if whole - slots >= block_size or not pools else whole
        pools[slots] = whole
    return pools


def differences(own: Sequence[Any], every: Sequence[Sequence[Any]], names: Sequence[str]) -> str:
    """The options in `own` that are not the same in all of `every`, in words."""
    words = []
    for name, value, others in zip(names, own, zip(*every, strict=True), strict=True):
        if value is not None and len(set(map(str, others))) > 1:
            text = plain(value)
            words.append(text if name in CLEAR_OPTIONS else f"{name.replace('_', ' ')} {text}")
    return ", ".join(words)
