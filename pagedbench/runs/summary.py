"""summary.json: every metric by topic, with its unit, its meaning, and its uncertainty."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.memory.cache_times import EDGES
from pagedbench.metrics.client import tokens_per_chunk
from pagedbench.metrics.formulas import METRICS
from pagedbench.metrics.intervals import METHOD
from pagedbench.metrics.memory import (
    EXTERNAL_PARTS,
    PARTS,
    mean_over_iterations,
    mean_over_time,
    shared_saving_over_iterations,
)
from pagedbench.metrics.uncertainty import ONE_SPIKE, uncertainties
from pagedbench.runs.result import IDENTITY_COLUMNS, summary_row

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord
    from pagedbench.runs.result import Result

SCHEMA_VERSION = 1

Document = dict[str, object]


def summary_document(result: Result) -> Document:
    """Everything that was measured; null where a metric is not defined."""
    row = summary_row(result)
    topics: dict[str, Document] = {}
    known = uncertainties(result.record)
    for metric in METRICS:
        entry: Document = {
            "value": result.values[metric.name],
            "unit": metric.unit,
            "better": metric.better,
            "definition": metric.definition,
        }
        if metric.name in known:
            entry["n"] = known[metric.name].num_samples
            entry["n_effective"] = known[metric.name].num_effective
            entry["interval_95"] = known[metric.name].interval
            if known[metric.name].obstacle is not None:
                entry["no_interval"] = known[metric.name].obstacle
        if metric.topic == "spike" and result.trace.spike is not None:
            entry["no_interval"] = ONE_SPIKE
        topics.setdefault(metric.topic, {})[metric.name] = entry
    return {
        "schema_version": SCHEMA_VERSION,
        "run": {name: row[name] for name in IDENTITY_COLUMNS} | {"status": result.status},
        **topics,
        "interval_method": METHOD,
        "memory_parts": _memory_parts(result.record),
        "cache_times": _cache_times(result.record),
        **_tiers(result),
        **_pages(result),
        **({} if result.prediction is None else {"prediction": result.prediction.document()}),
        "slo": [{"name": name, "at_most_s": limit} for name, limit in result.slo.bounds]
        if result.slo
        else [],
        "slo_source": result.slo.sources if result.slo else [],
        "invalid_because": list(result.record.invalid_because),
        **_client(result.record),
        "machine_load": None if result.load is None else result.load.document(),
    }


def _cache_times(record: RunRecord) -> Document | None:
    """How long contents of the prefix cache were kept, as histograms; None without a cache."""
    times = record.cache_times
    if times is None:
        return None
    kinds = {
        "block_lifetime": ("From the computation of a block to its eviction.", times.lifetimes),
        "idle_before_eviction": ("From a block's last owner to its eviction.", times.idle_times),
        "gap_between_uses": ("Between two requests that computed or found a block.", times.gaps),
    }
    histograms: Document = {
        name: {"definition": meaning, "n": sum(found.counts), "counts": found.counts}
        for name, (meaning, found) in kinds.items()
    }
    bins = "counts[i]: from edges[i - 1] up to edges[i]; the first below all edges, the last above"
    return {"unit": "s", "bins": bins, "edges": list(EDGES), **histograms}


def _client(record: RunRecord) -> Document:
    """How requests were sent to a server, and in which chunks replies came; empty for our own engine."""
    view = record.client
    if view is None:
        return {}
    lags = 1000 * view.lags
    known = np.percentile(lags, (50, 99, 100)).tolist() if len(lags) else (None, None, None)
    return {
        "client": {
            **dict(zip(("lag_p50_ms", "lag_p99_ms", "lag_max_ms"), known, strict=True)),
            "num_late": view.num_late,
            "peak": asdict(view.peak),
            "certified": None if view.certified is None else asdict(view.certified),
            "remarks": list(view.remarks),
            "tokens_per_chunk": tokens_per_chunk(record),
            "num_other_prompts": view.num_other_prompts,
            "forces_lengths": view.forces_lengths,
            "problems": [asdict(problem) for problem in view.problems],
        }
    }


def _tiers(result: Result) -> Document:
    """The tiers' sizes, and what moved between them; empty without tiers."""
    counts, plan = result.record.tier_counts, result.plan
    if counts is None:
        return {}
    slot, token = plan.slot_bytes, plan.kv_bytes // plan.kv_slots
    moved = {name: slot * number for name, number in asdict(counts).items() if not name.endswith("hits")}
    sizes = {name: token * number for name, number in plan.tier_slots._asdict().items()}
    return {"tiers": {"unit": "bytes", "capacity": sizes, "moved": moved}}


def _pages(result: Result) -> Document:
    """What happened to pages, and how long it took; empty if all slots have memory."""
    counts, spec = result.record.page_counts, result.plan.pages
    if counts is None or spec is None:
        return {}
    meaning = "pages per tensor; each layer on each rank has a tensor of keys and one of values"
    return {
        "pages": {
            "unit": meaning,
            "page_bytes": spec.page_bytes,
            "num_tensors": 2 * result.plan.shape.num_layers,
            "committed_when_needed": counts.committed,
            "committed_ahead": counts.ahead,
            "found_committed": counts.reused,
            "given_back": counts.given_back,
            "peak": counts.peak,
            "waited_s": counts.commit_time,
            "beside_the_model_s": counts.ahead_time,
        }
    }


def _memory_parts(record: RunRecord) -> Document:
    """Both averages of all parts of the pool; external is rounding and unusable together."""
    parts = (*PARTS, *EXTERNAL_PARTS)
    return {
        "unit": "%",
        "capacity_slots": record.capacity,
        "mean_over_time": {f"kv_{part}_pct": mean_over_time(record, part) for part in parts},
        "mean_over_iterations": {f"kv_{part}_pct": mean_over_iterations(record, part) for part in parts}
        | {"kv_shared_saved_pct": shared_saving_over_iterations(record)},
    }
