"""The rows of a capacity search: what was searched, what was found, and every run behind it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pagedbench.experiments.capacity import Capacity, Found, Probe, Search

COPIED = ("model", "device", "trace", "arrival", "burstiness", "n", "beam_width", "block_size",
          "tensor_parallel_size", "max_num_seqs", "max_num_batched_tokens", "preemption", "prefix_caching",
          "seed")  # fmt: skip
"""Options that a row repeats."""


def capacity_rows(search: Search, found: Found) -> list[dict[str, Any]]:
    """One row a criterion, by the columns of capacity.csv; `probes` lists the runs, by rate."""
    config = search.plan.config
    identity = {"system": search.plan.system.name} | {name: getattr(config, name) for name in COPIED}
    identity |= {
        "kv_slots": search.plan.kv_slots,
        "cost_model": search.plan.cost_model,
        "num_requests": config.num_requests,
        "duration_s": config.duration,
        "tolerance": search.tolerance,
    }
    probes = [_probe(probe) for probe in found.probes]
    runs = {"runs": len(probes), "probes": probes}
    return [identity | _outcome(item) | runs for item in found.capacities]


def _outcome(capacity: Capacity) -> dict[str, Any]:
    sustained, limit = capacity.sustained, capacity.limit
    figures = None if sustained is None else sustained.figures
    return {
        "criterion": str(capacity.criterion),
        "capacity": capacity.rate,
        "missed_rate": None if capacity.missed is None else capacity.missed.rate,
        "figure_at_capacity": figures[0] if figures else None,
        "running_mean": None if sustained is None else sustained.running_mean,
        "limited_by": None if limit is None else limit.kind,
        "limit_detail": None if limit is None else limit.detail,
        "valid": sustained is None or sustained.valid,
    }


def _probe(probe: Probe) -> dict[str, Any]:
    return {
        "rate": probe.rate,
        "num_requests": probe.num_requests,
        "figures": None if probe.figures is None else [_finite(figure) for figure in probe.figures],
        "running_mean": probe.running_mean,
        "limited_by": probe.limit.kind,
        "limit_detail": probe.limit.detail,
        "valid": probe.valid,
    }


def _finite(figure: float) -> float | None:
    """A mean over no request at all is infinite, which JSON has no word for."""
    return figure if math.isfinite(figure) else None
