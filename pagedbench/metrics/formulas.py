"""The table of metrics: each is declared once, with its unit, definition and formula."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pagedbench.config import ConfigError
from pagedbench.metrics.client import hidden_topics, seen_hit_pct
from pagedbench.metrics.memory import mean_over_time, shared_saving_over_time
from pagedbench.metrics.observed import Observed, Statistic
from pagedbench.metrics.page_commits import commit_time_mean_ms
from pagedbench.metrics.prefix_hits import prefix_hit_pct, tier_hit_pct
from pagedbench.metrics.recomputed import num_recomputed, recompute_tax
from pagedbench.metrics.slo import Slo, parse_slo
from pagedbench.metrics.validity import is_overloaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.metrics.records import RunRecord
    from pagedbench.metrics.spike import SpikeEffect
    from pagedbench.metrics.steady import SteadyPart
    from pagedbench.workload.processes import Spike

__all__ = ["METRICS", "Metric", "Slo", "Value", "find_metric", "parse_slo", "summarize"]

Value: TypeAlias = float | int | bool | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of summary.csv."""

    name: str
    unit: str  # "" for counts, shares and verdicts
    better: str  # "higher", "lower", or "-" where neither is
    definition: str  # one sentence
    formula: Callable[[Observed], Value]
    topic: str

    @property
    def statistic(self) -> Statistic | None:
        """The statistic and its latency; None for other metrics."""
        return self.formula if isinstance(self.formula, Statistic) else None


KINDS = {
    "mean": "mean",
    "p50": "median",
    "p90": "90th percentile",
    "p95": "95th percentile",
    "p99": "99th percentile",
    "max": "longest",
}


def _latency(column: str, unit: str, kinds: str, meaning: str) -> list[Metric]:
    """The metrics of one column of `Latencies`, named by column, kind of statistic and unit."""
    suffix = unit.partition("/")[0]
    scale = 1000.0 if suffix == "ms" else 1.0
    return [
        Metric(
            name=f"{column}_{kind}_{suffix}",
            unit=unit,
            better="lower",
            definition=f"{meaning}: {KINDS[kind]}.",
            formula=Statistic(column, kind, scale),
            topic="latency",
        )
        for kind in kinds.split()
    ]


def _kv_part(part: str, better: str, meaning: str) -> Metric:
    return Metric(
        name=f"kv_{part}_pct",
        unit="%",
        better=better,
        definition=f"Share of the KV pool, averaged over time, that {meaning}.",
        formula=lambda run: mean_over_time(run.record, part),
        topic="memory",
    )


def _sum_of(column: str) -> Callable[[Observed], Value]:
    return lambda run: int(run.record.steps[column].sum())


def _max_of(column: str) -> Callable[[Observed], Value]:
    return lambda run: int(run.record.steps[column].max(initial=0))


def _running_mean(run: Observed) -> Value:
    running = run.record.steps["running"]
    return float(running.mean()) if len(running) else None


def _offered_rate(run: Observed) -> Value:
    """The rate of the trace, which has a gap before each arrival, including the first."""
    record = run.record
    return record.num_arrived / record.last_arrival if record.last_arrival > 0 else None


def _evicted_blocks(run: Observed) -> Value:
    steps = run.record.steps
    return int(steps["evicted_blocks"].sum()) if steps["prefix_queried"].any() else None


def _of_part(
    part: Callable[[Observed], SteadyPart | None], value: Callable[[SteadyPart], float]
) -> Callable[[Observed], Value]:
    """A figure of a part of the run; None where the run has no such part."""
    return lambda run: None if (found := part(run)) is None else value(found)


def _of_spike(value: Callable[[SpikeEffect], float | None]) -> Callable[[Observed], Value]:
    """A figure of the spike; None without one, and where it is infinite."""

    def formula(run: Observed) -> Value:
        found = None if run.spike_effect is None else value(run.spike_effect)
        return found if found is not None and math.isfinite(found) else None

    return formula


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _slo_attainment(run: Observed) -> Value:
    if run.num_good is None or not run.record.num_arrived:
        return None
    return run.num_good / run.record.num_arrived


METRICS: tuple[Metric, ...] = (
    Metric("num_requests", "", "-", "Requests that arrived.",
           lambda run: run.record.num_arrived, "requests"),
    Metric("completed", "", "higher", "Requests that finished.",
           lambda run: run.num_completed, "requests"),
    Metric("failed", "", "lower", "Requests that could never fit the KV pool, or got no complete reply.",
           lambda run: len(run.latencies) - run.num_completed, "requests"),
    Metric("duration_s", "s", "-", "From the first arrival to the last completion.",
           lambda run: run.duration, "throughput"),
    Metric("offered_rate", "req/s", "-",
           "Requests that arrived, over the time of the last arrival; none if all arrived at once.",
           _offered_rate, "throughput"),
    Metric("request_throughput", "req/s", "higher",
           "Requests completed, over the time from first arrival to last completion, the drain included.",
           lambda run: run.per_second(run.num_completed), "throughput"),
    Metric("output_throughput", "tok/s", "higher",
           "Output tokens of completed requests, all their samples or beams, over the same time.",
           lambda run: run.per_second(run.num_output_tokens), "throughput"),
    Metric("total_token_throughput", "tok/s", "higher",
           "Prompt (once per request) and output tokens of completed requests, over the same time.",
           lambda run: run.per_second(run.num_prompt_tokens + run.num_output_tokens), "throughput"),
    Metric("goodput", "req/s", "higher",
           "Requests that meet every bound of the SLO, over the same time.",
           lambda run: run.per_second(run.num_good), "throughput"),
    Metric("slo_attainment", "", "higher",
           "Share (0-1) of all requests that meet every bound of the SLO; failed ones miss it.",
           _slo_attainment, "requests"),
    *_latency("normalized_latency", "s/token", "mean p50 p90 p99",
              "Arrival to the end of the request, over the length of one output"),
    *_latency("ttft", "ms", "mean p50 p90 p99",
              "Arrival to the end of the iteration that decided the first token"),
    *_latency("tpot", "ms", "mean p50 p90 p99",
              "Time per output token after the first, one mean per request"),
    *_latency("itl", "ms", "mean p99 max",
              "Gap between two tokens of a request, pooled over all tokens"),
    *_latency("e2el", "s", "mean p50 p99",
              "Arrival to the end of the request"),
    *_latency("queue_time", "ms", "mean p99",
              "Arrival to the iteration that first admits the request"),
    Metric("num_steps", "", "-", "Iterations.",
           lambda run: len(run.record.steps), "batch"),
    Metric("running_mean", "", "-", "Requests in an iteration, mean over iterations (the paper's Fig. 13).",
           _running_mean, "batch"),
    Metric("running_max", "", "-", "Most requests in one iteration.",
           _max_of("running"), "batch"),
    Metric("waiting_max", "", "lower", "Most requests that waited in one iteration.",
           _max_of("waiting"), "batch"),
    _kv_part("token_states", "higher", "holds a token in use, shared slots once"),
    _kv_part("reserved", "lower", "its owner will use later"),
    _kv_part("internal", "lower", "its owner holds and will never use"),
    _kv_part("external", "lower", "rounding takes, or that is free but did not fit the queue's head"),
    _kv_part("free", "-", "is free"),
    Metric("kv_shared_saved_pct", "%", "higher",
           "Share of the logical slots that sharing saves (1 - physical / logical), averaged over time.",
           lambda run: shared_saving_over_time(run.record), "memory"),
    Metric("preemptions_recompute", "", "lower", "Preemptions whose tokens were computed again.",
           _sum_of("preemptions_recompute"), "memory"),
    Metric("preemptions_swap", "", "lower", "Preemptions whose tokens were swapped to the host.",
           _sum_of("preemptions_swap"), "memory"),
    Metric("cow_copies", "", "-",
           "Copies of keys and values: of a shared block on write, or of an extent if nothing is shared.",
           _sum_of("cow_copies"), "memory"),
    Metric("overloaded", "", "-",
           "When arrivals end, over a tenth of all requests wait, in a queue that grew in the second half.",
           lambda run: is_overloaded(run.record), "verdict"),
    Metric("valid", "", "-",
           "Every request got its exact length, memory adds up, and arrivals were handed over in time.",
           lambda run: not run.record.invalid_because, "verdict"),
    Metric("prefix_hit_pct", "%", "higher",
           "Share of the prompt tokens looked up in a prefix cache that were there; none without a cache.",
           lambda run: prefix_hit_pct(run.record), "memory"),
    Metric("blocks_swapped_in", "", "-", "Blocks that came back from the host.",
           _sum_of("blocks_swapped_in"), "memory"),
    Metric("blocks_swapped_out", "", "-", "Blocks that were moved to the host.",
           _sum_of("blocks_swapped_out"), "memory"),
    Metric("steady_request_throughput", "req/s", "higher",
           "Requests completed in the second half of the arrivals' time, over it; none if not steady.",
           _of_part(lambda run: run.steady, lambda part: part.request_throughput), "throughput"),
    Metric("steady_output_throughput", "tok/s", "higher",
           "Output tokens decided in the second half of the arrivals' time, all samples or beams, over it.",
           _of_part(lambda run: run.steady, lambda part: part.output_throughput), "throughput"),
    *_latency("ttft", "ms", "p95",
              "Arrival to the end of the iteration that decided the first token"),
    Metric("window_start_s", "s", "-",
           "Start of the steady-state window: the longest span in which at least 80 % of the peak ran.",
           _of_part(lambda run: run.window, lambda part: part.start), "throughput"),
    Metric("window_duration_s", "s", "-",
           "Length of that window; none if it is shorter than most requests run.",
           _of_part(lambda run: run.window, lambda part: part.duration), "throughput"),
    Metric("window_request_throughput", "req/s", "higher",
           "Requests completed in the steady-state window, over it.",
           _of_part(lambda run: run.window, lambda part: part.request_throughput), "throughput"),
    Metric("window_output_throughput", "tok/s", "higher",
           "Output tokens decided in the steady-state window, all samples or beams, over it.",
           _of_part(lambda run: run.window, lambda part: part.output_throughput), "throughput"),
    Metric("spike_recovery_s", "s", "lower",
           "From the end of the spike until the TTFT p95 of the arrivals of the last 10 s is at most 1.5 "
           "times that before the spike, and stays so; none if it never was while requests arrived.",
           _of_spike(lambda effect: effect.recovery), "spike"),
    Metric("spike_ttft_before_ms", "ms", "lower", "TTFT p95 of the arrivals before the spike.",
           _of_spike(lambda effect: _ms(effect.ttft_before)), "spike"),
    Metric("spike_ttft_peak_ms", "ms", "lower",
           "Highest TTFT p95 of 10 s of arrivals from the spike on; none where too many of them failed.",
           _of_spike(lambda effect: _ms(effect.ttft_peak)), "spike"),
    Metric("spike_waiting_max", "", "lower",
           "Most requests that waited, from the spike's start until recovery, else until the end.",
           _of_spike(lambda effect: effect.waiting_max), "spike"),
    Metric("spike_kv_peak_pct", "%", "-",
           "Largest share of the KV pool that held tokens in that time.",
           _of_spike(lambda effect: effect.kv_peak_pct), "spike"),
    Metric("spike_preemptions", "", "lower", "Preemptions in that time, of either kind.",
           _of_spike(lambda effect: effect.num_preemptions), "spike"),
    Metric("recomputed_tokens", "", "lower",
           "Tokens computed again because of a preemption, those that a cache gave back not counted.",
           lambda run: num_recomputed(run.record), "memory"),
    Metric("recompute_tax", "", "lower", "Share (0-1) of all computed tokens that were computed again.",
           lambda run: recompute_tax(run.record), "memory"),
    Metric("evicted_blocks", "", "lower",
           "Blocks of the prefix cache that lost their contents; none without one.",
           _evicted_blocks, "memory"),
    *(
        Metric(f"prefix_hit_{tier}_pct", "%", "higher",
               f"Share of the prompt tokens looked up that were found on the {tier}; none without tiers.",
               tier_hit_pct(tier), "memory")
        for tier in ("device", "host", "disk")
    ),
    Metric("commit_time_mean_ms", "ms", "lower",
           "Time that an iteration waits for pages of virtual extents, mean; none without such pages.",
           commit_time_mean_ms, "memory"),
)  # fmt: skip
"""The columns of summary.csv from `num_requests` on, in order."""


def summarize(record: RunRecord, slo: Slo | None = None, spike: Spike | None = None) -> dict[str, Value]:
    """Every metric of a run, in the unit that its name ends with; None where it is not defined.

    `spike`: of the trace's arrival rate.
    """
    run, hidden = Observed(record, slo, spike), hidden_topics(record)
    values = {item.name: None if item.topic in hidden else item.formula(run) for item in METRICS}
    return {**values, "prefix_hit_pct": seen_hit_pct(record)} if hidden else values


HEADLINES = {"normalized_latency": "mean"}
"""The statistic of a latency's bare name, if it is not the median."""


def find_metric(name: str) -> Metric:
    """A metric by its column, with or without the unit; a latency's bare name is its headline.

    Raises:
        ConfigError: no metric has this name.
    """
    by_name = {metric.name: metric for metric in METRICS}
    headline = f"{name}_{HEADLINES.get(name, 'p50')}"
    for metric in METRICS:
        suffix = f"_{metric.unit.partition('/')[0]}"
        if name == metric.name or f"{name}{suffix}" == metric.name or f"{headline}{suffix}" == metric.name:
            return metric
    near = difflib.get_close_matches(name, by_name, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; summary.csv has their names"
    raise ConfigError(f"there is no metric {name!r}{hint}")
