"""manifest.json: the origin of a run, what it ran on, and whether it is valid."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from pagedbench.runs.machine import fingerprint, git_commit, versions
from pagedbench.runs.summary import SCHEMA_VERSION, Document

if TYPE_CHECKING:
    from pagedbench.execution.parallel.layout import RankLayout
    from pagedbench.plan import Plan
    from pagedbench.runs.result import Result
    from pagedbench.workload.dropped import Dropped
    from pagedbench.workload.processes import Spike
    from pagedbench.workload.trace import Trace


def manifest_document(result: Result) -> Document:
    """Everything about the run except its measurements."""
    reasons = result.record.invalid_because
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": result.run_id,
        "label": result.plan.config.label,
        "status": result.status,
        "valid": not reasons,
        "invalid_because": list(reasons),
        "overloaded": result.values["overloaded"],
        "started": result.started,
        "ended": result.ended,
        "command": result.command,
        "versions": versions(),
        "git_commit": git_commit(),
        "machine": fingerprint(),
        "machine_load": None if result.load is None else result.load.document(),
        "memory_bandwidth": dict(zip(("before", "after"), result.bandwidths, strict=True)),
        "seeds": {"seed": result.plan.config.seed},
        "plan": plan_facts(result.plan),
        **({} if result.plan.server is None else {"server": _server_facts(result)}),
        "trace": _trace_facts(result.trace),
    }


def _server_facts(result: Result) -> Document:
    """What is known of the server, and whether earlier runs may have left prompts in its cache."""
    assert result.plan.server is not None, "a run of our engine"
    is_fresh = result.server is not None and result.server.is_cache_fresh
    return {**asdict(result.plan.server), "is_cache_fresh": is_fresh}


def plan_facts(plan: Plan) -> Document:
    """The resolved system, model, device and pool."""
    config = plan.config
    return {
        "system": plan.system.name,
        "memory": config.memory,
        "batching": config.batching,
        "model": config.model,
        "model_counted": plan.shape.note or None,
        "weights": plan.weights,
        "device": config.device,
        "device_name": plan.device_name,
        "dtype": config.dtype,
        "kernels": plan.kernels,
        "cost_model": plan.cost_model,
        "attention_cost": plan.attention_cost,
        "kv_slots": plan.kv_slots,
        "kv_blocks": plan.num_blocks,
        "kv_bytes": plan.kv_bytes,
        "host_slots": plan.host_slots,
        "ranks": None if plan.ranks is None else rank_facts(plan.ranks, plan.kv_bytes),
    }


def rank_facts(ranks: RankLayout, kv_bytes: int) -> Document:
    """The processes that share the model and the pool."""
    return {
        "number": ranks.num_ranks,
        "backend": ranks.backend,
        "threads_per_rank": ranks.threads,
        "torchrun": ranks.is_torchrun,
        "kv_bytes_per_rank": kv_bytes // ranks.num_ranks,
    }


def _trace_facts(trace: Trace) -> Document:
    names = ("name", "source", "synthetic", "sha256", "arrivals_sha256", "arrival")
    counts = ("num_unreadable", "mean_prompt_len", "mean_output_len", "num_sessions")
    return {
        **{name: getattr(trace, name) for name in names},
        "num_requests": len(trace.requests),
        "num_dropped": trace.num_dropped,
        "dropped": _dropped_facts(trace.dropped),
        **{name: getattr(trace, name) for name in counts},
        "num_shared_prefixes": len(trace.prefixes),
        "spike": _spike_facts(trace.spike),
    }


def _spike_facts(spike: Spike | None) -> Document | None:
    if spike is None:
        return None
    return {"start_s": spike.start, "end_s": spike.end, "factor": spike.factor}


def _dropped_facts(dropped: Dropped | None) -> Document | None:
    """Which rows were left out, and how that changes the mean prompt length."""
    if dropped is None:
        return None
    return {
        "num_rows": dropped.num_rows,
        "share": dropped.share,
        "num_empty": dropped.num_empty,
        "num_too_long": dropped.num_long,
        "max_model_len": dropped.max_model_len,
        "mean_prompt_len_before": dropped.mean_prompt_before,
        "mean_prompt_len_after": dropped.mean_prompt_after,
    }
