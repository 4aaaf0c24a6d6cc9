"""The text of /metrics, in the format of Prometheus; with vLLM's names for metrics of the same meaning."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagedbench.tools.serve.statistics import Histogram, Statistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PARTS = ("token_states", "reserved", "internal", "external", "free")


def metrics_text(statistics: Statistics, model: str, num_connections: int) -> str:
    """All current metrics."""
    return "\n".join([*_lines(statistics, _escaped(model), num_connections), ""])


def _lines(now: Statistics, model: str, num_connections: int) -> Iterator[str]:
    label = f'model_name="{model}"'
    gauges: list[tuple[str, str, float]] = [
        ("vllm:num_requests_running", "Running requests.", now.num_running),
        ("vllm:num_requests_waiting", "Requests that wait for admission.", now.num_waiting),
        ("vllm:kv_cache_usage_perc", "Share (0-1) of the KV pool that is not free.", _used(now)),
        ("pagedbench:connections", "Open connections.", num_connections),
    ]
    for name, text, value in gauges:
        yield from _head(name, text, "gauge")
        yield f"{name}{{{label}}} {value:g}"
    yield from _head(
        "pagedbench:kv_slots", "Slots of the KV pool by their contents; they add up to the pool.", "gauge"
    )
    for part in PARTS:
        slots = 0 if now.usage is None else getattr(now.usage, part)
        yield f'pagedbench:kv_slots{{{label},part="{part}"}} {slots}'
    counters: list[tuple[str, str, int]] = [
        ("vllm:num_preemptions_total", "Preemptions.", now.num_preemptions),
        (
            "vllm:prefix_cache_queries_total",
            "Prompt tokens looked up in the prefix cache.",
            now.prefix_queries,
        ),
        ("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", now.prefix_hits),
        (
            "vllm:prompt_tokens_total",
            "Tokens of prompts, including cached ones.",
            now.prompt_tokens,
        ),
        ("vllm:generation_tokens_total", "Tokens generated.", now.generation_tokens),
        ("pagedbench:turns_total", "Turns of the engine's loop.", now.num_turns),
    ]
    for name, text, count in counters:
        yield from _head(name, text, "counter")
        yield f"{name}{{{label}}} {count}"
    yield from _head("vllm:request_success_total", "Requests that left, by reason.", "counter")
    for reason in ("stop", "length", "abort", "error"):
        yield f'vllm:request_success_total{{finished_reason="{reason}",{label}}} {now.finished[reason]}'
    for name, text, histogram in _histograms(now):
        yield from _head(name, text, "histogram")
        bounds = [*(f"{end:g}" for end in histogram.ends), "+Inf"]
        counts = list(accumulate(histogram.counts))  # which go on while this is written
        for end, count in zip(bounds, counts, strict=True):
            yield f'{name}_bucket{{le="{end}",{label}}} {count}'
        yield f"{name}_sum{{{label}}} {histogram.total:.9g}"
        yield f"{name}_count{{{label}}} {counts[-1]}"


def _histograms(now: Statistics) -> list[tuple[str, str, Histogram]]:
    return [
        ("vllm:time_to_first_token_seconds", "From the arrival to the first token.", now.first_token),
        ("vllm:inter_token_latency_seconds", "Between two tokens.", now.inter_token),
        (
            "vllm:request_time_per_output_token_seconds",
            "Mean time between two tokens of a request.",
            now.per_token,
        ),
        ("vllm:e2e_request_latency_seconds", "From the arrival to the last token.", now.latency),
        ("vllm:request_queue_time_seconds", "From the arrival to the admission.", now.queue),
        (
            "pagedbench:delivery_seconds",
            "From the end of an iteration until the event loop has its tokens.",
            now.delivery,
        ),
    ]


def _head(name: str, text: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _used(now: Statistics) -> float:
    if now.usage is None:
        return 0.0
    return 1 - (now.usage.free + now.usage.unusable) / now.usage.capacity


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
