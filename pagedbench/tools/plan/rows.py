"""Rows: the results of one fleet (fleets.csv), and how many replicas an objective needs (plan.csv)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

from pagedbench.metrics.formulas import find_metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Sequence as Items

    from pagedbench.runs.criterion import Criterion
    from pagedbench.tools.plan.fleet_record import FleetRecord
    from pagedbench.tools.plan.simulation import Setup

    Row: TypeAlias = dict[str, Any]

IDENTITY = ("system", "model", "device", "cost_model", "tensor_parallel_size", "block_size", "kv_slots",
            "prefix_caching", "trace", "trace_sha256", "arrival", "rate", "router", "staleness_s",
            "disaggregate", "autoscale")  # fmt: skip
"""Columns that identify a fleet, except its size and seed."""

STATISTICS = (
    *("normalized_latency_mean_s", "normalized_latency_p99_s"),
    *("ttft_mean_ms", "ttft_p50_ms", "ttft_p90_ms", "ttft_p99_ms"),
    *("tpot_mean_ms", "tpot_p50_ms", "tpot_p90_ms", "tpot_p99_ms"),
    *("e2el_mean_s", "e2el_p50_s", "e2el_p99_s", "queue_time_mean_ms", "queue_time_p99_ms"),
)
"""Metrics of summary.csv that fleets also have, over the requests of all replicas."""

SPREAD = ("ttft_p50_ms", "ttft_p99_ms", "tpot_p99_ms", "prefix_hit_pct", "request_throughput")


def fleet_row(setup: Setup, size: int, fleet: FleetRecord, criterion: Criterion | None) -> Row:
    """One row of fleets.csv: one fleet of one size and seed."""
    served = fleet.served(None if criterion is None else criterion.bounds)
    hits = sum(item.prefix_hits for item in fleet.replicas)
    queried = sum(item.prefix_queried for item in fleet.replicas)
    statistics = {name: find_metric(name).statistic for name in STATISTICS}
    good, arrived = served.num_good, fleet.num_arrived
    row = {
        **_identity(setup),
        "seed": setup.plan.config.seed,
        "units": size,
        **_occupied(setup, size, fleet),
        "num_requests": len(setup.trace.requests),
        "completed": served.num_completed,
        "duration_s": served.duration,
        "request_throughput": served.per_second(served.num_completed),
        "output_throughput": served.per_second(served.num_output_tokens),
        "goodput": served.per_second(good),
        "slo_attainment": None if good is None or not arrived else good / arrived,
        **{name: None if item is None else item(served) for name, item in statistics.items()},
        "prefix_hit_pct": 100 * hits / queried if queried else None,
        "balance": fleet.balance,
        "preemptions": sum(item.num_preemptions for item in fleet.replicas),
        "kv_use_mean_pct": _mean(item.kv_use_mean_pct for item in fleet.replicas),
        "moved_gib": fleet.moved_bytes / 2**30 if setup.ratio else None,
        "moved_mean_ms": 1000 * fleet.moved_seconds / fleet.num_arrived if setup.ratio else None,
    }
    return {**row, **_verdict(fleet, criterion)}


def _identity(setup: Setup) -> Row:
    plan, trace, config = setup.plan, setup.trace, setup.plan.config
    scaler = setup.autoscaler
    return {
        "system": plan.system.name,
        "model": config.model,
        "device": config.device,
        "cost_model": plan.cost_model,
        "tensor_parallel_size": config.tensor_parallel_size,
        "block_size": config.block_size,
        "kv_slots": plan.kv_slots,
        "prefix_caching": config.prefix_caching,
        "trace": trace.name,
        "trace_sha256": trace.sha256,
        "arrival": config.arrival,
        "rate": config.rate if config.arrival != "trace" else trace.realised_rate,
        "router": setup.router,
        "staleness_s": setup.staleness,
        "disaggregate": None if setup.ratio is None else str(setup.ratio),
        "autoscale": None if scaler is None else f"{scaler.signal}:{scaler.target:g}",
    }


def _occupied(setup: Setup, size: int, fleet: FleetRecord) -> Row:
    """The number of replicas at the beginning and on average, and the cards of the latter."""
    number = size * (1 if setup.ratio is None else setup.ratio.prefill + setup.ratio.decode)
    mean = float(number)
    if setup.autoscaler is not None and fleet.end_time:
        mean = sum(item.end_time - item.start_time for item in fleet.replicas) / fleet.end_time
    most = max(number, len(fleet.replicas))
    ranks = setup.plan.config.tensor_parallel_size or 1
    return {"replicas": number, "replicas_mean": mean, "replicas_started": most, "gpus": mean * ranks}


def _verdict(fleet: FleetRecord, criterion: Criterion | None) -> Row:
    figures = None if criterion is None or fleet.is_cut else criterion.figures(fleet)
    is_met = None if criterion is None else figures is not None and criterion.is_met(figures)
    limit = None if is_met else fleet.limit
    return {
        "criterion": None if criterion is None else str(criterion),
        "figure": None if figures is None else figures[0],
        "is_met": is_met,
        "limited_by": None if limit is None else limit.kind.value,
        "limit_detail": None if limit is None else limit.detail,
        "is_cut": fleet.is_cut,
        "valid": fleet.is_cut or not fleet.invalid,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def with_costs(rows: Iterable[Row], prices: Mapping[str, float]) -> list[Row]:
    """The rows with the cost of their cards, from prices per card and hour."""
    priced = []
    for row in rows:
        price = prices.get(row["device"])
        cost = None if price is None else price * row["gpus"]
        tokens = row["output_throughput"]
        is_known = cost is not None and tokens and not row["is_cut"]
        a_million = cost / (3600 * tokens) * 1e6 if is_known else None
        priced.append({**row, "cost_per_hour": cost, "cost_per_million_output_tokens": a_million})
    return priced


def answers(rows: Items[Row]) -> list[Row]:
    """One row of plan.csv for fleets that differ only in size and seed: what the objective needs.

    `replicas` is the upper median over the seeds, and `replicas_min` to `replicas_max` their range; empty
    if with some seed no size that was tried meets the objective.
    """
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in IDENTITY if name != "trace_sha256")].append(row)
    return [_answer(own) for own in groups.values()]


def _answer(rows: Items[Row]) -> Row:
    found, missed = [], []
    for seed in dict.fromkeys(row["seed"] for row in rows):
        own = sorted((row for row in rows if row["seed"] == seed), key=lambda row: int(row["units"]))
        met = [row for row in own if row["is_met"]]
        found.append(min(met, key=lambda row: int(row["units"]), default=None))
        smaller = [row for row in own if found[-1] is None or row["units"] < found[-1]["units"]]
        missed.append(smaller[-1] if smaller else None)
    known = sorted((row for row in found if row is not None), key=lambda row: int(row["units"]))
    is_found = len(known) == len(found)
    middle = known[len(known) // 2] if is_found else None
    limits = [row for row in missed if row is not None and row["limited_by"] is not None]
    kinds = [row["limited_by"] for row in limits]
    kind = max(kinds, key=kinds.count, default=None)
    detail = next((row["limit_detail"] for row in limits if row["limited_by"] == kind), None)
    return {
        **{name: rows[0][name] for name in IDENTITY},
        "seeds": len(found),
        "criterion": rows[0]["criterion"],
        "replicas": middle and middle["replicas"],
        "replicas_min": known[0]["replicas"] if is_found else None,
        "replicas_max": known[-1]["replicas"] if is_found else None,
        "gpus": middle and middle["gpus"],
        "most_tried": max(row["replicas"] for row in rows),
        "figure": middle and middle["figure"],
        **{name: middle and middle[name] for name in (*SPREAD, "balance", "preemptions")},
        "limited_by": kind,
        "limit_detail": detail,
        "cost_per_hour": middle and middle["cost_per_hour"],
        "cost_per_million_output_tokens": middle and middle["cost_per_million_output_tokens"],
        "valid": all(row["valid"] for row in rows),
    }
