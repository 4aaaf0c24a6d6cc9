"""The kinds of plots, and which of them saved runs have something to show in."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.runs.machine import install_command
from pagedbench.show.curves import latency_panels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.runs.saved import SavedRun

KINDS = {
    "latency": "normalized latency over the request rate (the paper's Fig. 12, 14, 16, 17)",
    "memory": "what the KV pool held, averaged over time (Fig. 2 averages over iterations)",
    "batch": "requests in an iteration, averaged over iterations (Fig. 13)",
    "savings": "blocks saved by sharing, averaged over time (Fig. 15 averages over iterations)",
    "cdf": "distributions of latencies over requests",
    "timeline": "the KV pool and the queue over time",
}
"""Name -> what it shows."""

MAX_RUNS = {"memory": 30, "batch": 30, "savings": 30, "cdf": 12, "timeline": 6}
"""More would not be readable."""


class PlotError(ConfigError):
    """The runs have nothing to show in a plot, or too much. One sentence."""


def fitting_kinds(runs: Sequence[SavedRun]) -> list[str]:
    """The kinds that are worth drawing if nobody names one."""
    rates = {run.rate for run in runs if run.rate is not None}
    kinds = ["latency"] if len(rates) > 1 and latency_panels(runs) else []
    kinds += [kind for kind in ("memory", "batch", "cdf", "timeline") if len(runs) <= MAX_RUNS[kind]]
    shared = [run.values.get("kv_shared_saved_pct") for run in runs]
    if len(runs) <= MAX_RUNS["savings"] and any(value and value > 0 for value in shared):
        kinds.append("savings")
    return kinds


def check_kind(kind: str, runs: Sequence[SavedRun]) -> None:
    """Can this be drawn?

    Raises:
        PlotError: there is no such kind, or the runs are too many or of the wrong sort.
    """
    if kind not in KINDS:
        raise PlotError(f"unknown plot {kind!r}: choose from {', '.join(KINDS)}")
    if len(runs) > MAX_RUNS.get(kind, len(runs)):
        raise PlotError(
            f"{kind} shows at most {MAX_RUNS[kind]} runs, and there are {len(runs)}: name fewer folders"
        )
    if kind == "latency" and not latency_panels(runs):
        raise PlotError("latency needs runs at a finite rate with completed requests: name others")


def check_matplotlib(instead: str) -> None:
    """Is it installed?

    Args:
        instead: an option that does without.

    Raises:
        PlotError: it is not.
    """
    if importlib.util.find_spec("matplotlib") is None:
        install = install_command("matplotlib")
        raise PlotError(f"plots need matplotlib, which is missing: {install}; or use {instead}")
