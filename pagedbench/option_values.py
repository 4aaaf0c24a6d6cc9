"""The values that options may have, which of them take lists, and which belong to one kind of arrivals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CHOICES = {
    "arrival": ("poisson", "gamma", "constant", "spike", "ramp", "closed", "trace"),
    "turn_times": ("think", "recorded", "api"),
    "load_format": ("auto", "dummy"),
    "cost_model": ("auto", "modern", "roofline", "vllm-2023", "published"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "kv_dtype": ("auto", "int8"),
    "kernels": ("auto", "native", "triton", "reference"),
    "preemption": ("auto", "recompute", "swap", "cheapest"),
    "prefill": ("mixed", "separate", "chunked"),
    "kept_pages": ("reuse", "late", "none"),
}
"""Options with a closed set of values."""

NO_RATE = ("trace", "closed")
"""Arrivals that have no rate of their own to keep."""

OPTIONS_OF_ARRIVALS = {
    "spike_at": "spike",
    "spike_duration": "spike",
    "spike_factor": "spike",
    "ramp_to": "ramp",
    "max_concurrency": "closed",
    "think_time": "closed",
}
"""Options that shape one kind of arrivals only."""

AT_LEAST_ONE = ("kv_slots", "block_size", "max_model_len", "max_num_seqs", "max_num_batched_tokens",
                "batch_size", "num_requests", "tensor_parallel_size", "n", "beam_width", "max_concurrency",
                "trace_block_size", "shared_prefix_groups", "prefill_chunk_size")  # fmt: skip
AT_LEAST_ZERO = ("warmup", "seed", "top_k", "shared_prefix_len", "commit_ahead")

RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "rate": (lambda value: value > 0, "above 0 requests per second"),
    "duration": (lambda value: 0 < value < math.inf, "a number of seconds above 0"),
    "burstiness": (lambda value: 0 < value < math.inf, "above 0"),
    "time_scale": (lambda value: 0 < value < math.inf, "above 0 and finite"),
    "length_scale": (lambda value: 0 < value < math.inf, "above 0 and finite"),
    "spike_at": (lambda value: 0 <= value < math.inf, "a number of seconds, 0 or more"),
    "spike_duration": (lambda value: 0 < value < math.inf, "a number of seconds above 0"),
    "spike_factor": (lambda value: 0 < value < math.inf, "above 0 and finite"),
    "ramp_to": (lambda value: 0 < value < math.inf, "above 0 requests per second, and finite"),
    "think_time": (lambda value: 0 <= value < math.inf, "a number of seconds, 0 or more"),
    "temperature": (lambda value: 0 <= value < math.inf, "0 or more"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "watermark": (lambda value: 0 <= value < 1, "a share of at least 0 and below 1"),
    "gpu_memory_utilization": (lambda value: 0 < value <= 1, "a share above 0 and at most 1"),
}
"""Options that are real numbers, and which values they may have."""

MAX_SEED = 2**64 - 1
"""Random numbers are hashes of 64-bit keys."""

LISTS = ("model", "device", "tensor_parallel_size", "kv_dtype", "kv_slots", "kv_memory", "system", "trace",
         "arrival", "rate", "seed", "n", "beam_width", "block_size", "max_num_seqs",
         "max_num_batched_tokens", "preemption", "victim", "admission", "prefix_caching", "eviction",
         "watermark", "prefill", "page_size", "commit_ahead", "kept_pages")  # fmt: skip
"""Options whose comma-separated values run as a cross product. First those that say what is loaded."""


def flag(name: str) -> str:
    """The command-line option of a field of `RunConfig`."""
    return "--" + name.replace("_", "-")


def typed(name: str, value: str | int) -> str:
    """The option of a field with its value, as it is typed."""
    if isinstance(value, bool):
        return flag(name) if value else f"--no-{flag(name)[2:]}"
    return f"{flag(name)} {value}"
