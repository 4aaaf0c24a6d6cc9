"""The rows of a capacity search: what was searched for, the answer, and every run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pagedbench.tools.capacity.probe import Goal

if TYPE_CHECKING:
    from pagedbench.plan import Plan
    from pagedbench.runs.criterion import Criterion
    from pagedbench.tools.capacity.probe import Probe, Search
    from pagedbench.tools.capacity.search import Capacity, Found

COPIED = ("model", "device", "trace", "arrival", "burstiness", "n", "beam_width", "block_size",
          "tensor_parallel_size", "max_num_seqs", "max_num_batched_tokens", "preemption", "prefix_caching",
          "seed")  # fmt: skip
"""Options that a row contains."""

OF_ENGINE = ("device", "block_size", "tensor_parallel_size", "max_num_seqs", "max_num_batched_tokens",
             "preemption", "prefix_caching")  # fmt: skip
"""Options of our engine, which are unknown for a server."""


def capacity_rows(search: Search, found: Found) -> list[dict[str, Any]]:
    """One row per criterion, by the columns of capacity.csv; `probes` lists the runs by length and load."""
    config = search.plan.config
    identity = {"system": search.plan.system.name} | {name: getattr(config, name) for name in COPIED}
    if search.plan.server is not None:
        identity |= dict.fromkeys(OF_ENGINE) | {"kv_slots": search.plan.server.kv_slots}
    identity |= {"cost_model": search.plan.cost_model, "find": search.goal, "tolerance": search.tolerance}
    rows = []
    for item in found.capacities:
        probes = [_probe(probe, item.criterion) for probe in found.probes]
        rows.append(identity | _outcome(search, item) | {"runs": len(probes), "probes": probes})
    return rows


def _outcome(search: Search, capacity: Capacity) -> dict[str, Any]:
    sustained, missed, limit = capacity.sustained, capacity.missed, capacity.limit
    shown = sustained or missed
    assert shown is not None, "no load was tried"
    duration, length = shown.plan.config.duration, capacity.compared_length
    figures = None if sustained is None else sustained.results[capacity.criterion].figures
    return {
        **_answer(search, sustained, missed),
        "time_scale": shown.plan.config.time_scale if shown.plan.config.arrival == "trace" else None,
        "num_requests": shown.num_requests,
        "duration_s": duration,
        "compared_duration_s": length * duration if length and duration else None,
        "is_widened": capacity.is_widened,
        "criterion": str(capacity.criterion),
        "figure_at_capacity": figures[0] if figures else None,
        "running_mean": None if sustained is None else sustained.running_mean,
        "limited_by": None if limit is None else limit.kind,
        "limit_detail": None if limit is None else limit.detail,
        "valid": sustained is None or sustained.valid,
    }


def _answer(search: Search, sustained: Probe | None, missed: Probe | None) -> dict[str, Any]:
    """The interval of rates at one pool, or of pools at one rate."""
    plan: Plan | None
    if search.goal is Goal.RATE:
        rates = {
            "capacity": 0.0 if sustained is None else sustained.rate,
            "missed_rate": None if missed is None else missed.rate,
            "rate": None,
        }
        missed_slots, plan = None, search.plan
    else:
        shown = sustained or missed
        rates = {"capacity": None, "missed_rate": None, "rate": None if shown is None else shown.rate}
        missed_slots = None if missed is None else missed.plan.kv_slots
        plan = None if sustained is None else sustained.plan
    return {
        **rates,
        "kv_slots": None if plan is None else plan.kv_slots,
        "kv_blocks": None if plan is None else plan.num_blocks,
        "kv_memory_gib": None if plan is None else plan.kv_bytes / 2**30,
        "missed_kv_slots": missed_slots,
        "device_kv_slots": search.plan.kv_slots,
    }


def _probe(probe: Probe, criterion: Criterion) -> dict[str, Any]:
    result, config = probe.results[criterion], probe.plan.config
    return {
        "rate": probe.rate,
        "time_scale": config.time_scale if config.arrival == "trace" else None,
        "kv_slots": probe.plan.kv_slots,
        "duration_s": config.duration,
        "num_requests": probe.num_requests,
        "figures": None if result.figures is None else [_finite(figure) for figure in result.figures],
        "is_met": result.is_met,
        "running_mean": probe.running_mean,
        "limited_by": None if result.limit is None else result.limit.kind,
        "limit_detail": None if result.limit is None else result.limit.detail,
        "valid": probe.valid,
    }


def _finite(figure: float) -> float | None:
    """The mean over no requests is infinite, which JSON cannot express."""
    return figure if math.isfinite(figure) else None
