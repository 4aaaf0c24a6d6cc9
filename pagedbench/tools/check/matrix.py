"""The pinned matrix of `pagedbench check`: small runs that are short of memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from pagedbench.config import RunConfig


@dataclass(frozen=True, slots=True)
class Case:
    """One run in virtual time. `name` is "system/topic"."""

    name: str
    config: RunConfig


BASE = RunConfig(model="opt-13b", device="sim:a100-40gb", cost_model="published", duration=40.0)
"""Options with published step times, so that a new fit of the cost model fails only one case."""

SMALL_POOL = replace(BASE, kv_slots=4096, rate=2.5, duration=20.0)
"""Options with many preemptions within seconds."""

ALPACA = replace(BASE, trace="alpaca", kv_slots=4096, duration=None, num_requests=120)
"""Options with short requests and a small pool, because the usual one would hold all of them."""

PREFIXES = replace(ALPACA, shared_prefix_len=200)

SHAREGPT_RATES = {
    "paged": 4.0,
    "orca-oracle": 3.0,
    "orca-pow2": 2.5,
    "orca-max": 1.5,
    "fastertransformer": 1.0,
}
ALPACA_RATES = {
    "paged": 80.0,
    "orca-oracle": 30.0,
    "orca-pow2": 16.0,
    "orca-max": 6.0,
    "fastertransformer": 3.0,
}
"""Requests per second, above what the system sustains."""


def _case(name: str, base: RunConfig, **options: Any) -> Case:
    return Case(name, replace(base, system=name.partition("/")[0], **options))


CASES = (
    *(_case(f"{system}/sharegpt", BASE, rate=rate) for system, rate in SHAREGPT_RATES.items()),
    *(_case(f"{system}/alpaca", ALPACA, rate=rate) for system, rate in ALPACA_RATES.items()),
    _case("paged/n4", BASE, n=4, temperature=1.0, rate=1.5),
    _case("paged/beam4", BASE, beam_width=4, rate=1.5, kv_slots=8192),
    _case("orca-pow2/n4", BASE, n=4, temperature=1.0, rate=0.5),
    _case("orca-oracle/beam4", BASE, beam_width=4, rate=1.0),
    _case("paged/recompute", SMALL_POOL, preemption="recompute"),
    _case("paged/swap", SMALL_POOL, preemption="swap"),
    _case("paged/swap-n4", SMALL_POOL, n=4, temperature=1.0, rate=1.0, swap_space="1GiB"),
    _case("paged/shared-prefix", PREFIXES, rate=80.0, shared_prefix_groups=3),
    _case("paged/prefix-caching", PREFIXES, rate=24.0, shared_prefix_groups=8, prefix_caching=True),
    _case("fastertransformer/closed", BASE, rate=math.inf, duration=None, num_requests=30),
    _case("fastertransformer/n4", BASE, n=4, temperature=1.0, batch_size=3),
    _case("paged/blocks-of-1", SMALL_POOL, block_size=1),
    _case("paged/blocks-of-8", SMALL_POOL, block_size=8),
    _case("paged/blocks-of-32", SMALL_POOL, block_size=32),
    _case("orca-max/blocks-of-32", BASE, block_size=32, rate=1.0),
    _case("paged/prefill-separate", SMALL_POOL, prefill="separate"),
    _case("paged/prefill-chunked", SMALL_POOL, prefill="chunked", max_num_batched_tokens=256),
    _case("paged/least-computed", SMALL_POOL, victim="least-computed", preemption="swap"),
    _case("paged/reserve", SMALL_POOL, admission="reserve"),
    _case(
        "paged/s3-fifo",
        PREFIXES,
        rate=24.0,
        shared_prefix_groups=8,
        prefix_caching=True,
        eviction="s3-fifo",
    ),
    _case("paged/int8", SMALL_POOL, cost_model="modern", kv_dtype="int8"),
    _case(
        "paged/windows", SMALL_POOL, model="gemma-3-12b", device="sim:h100", cost_model="modern", rate=6.0
    ),
    _case("vattention/swap", SMALL_POOL, preemption="swap", page_size="64KiB"),
    _case("paged/few-sequences", BASE, rate=4.0, duration=20.0, max_num_seqs=24),
    _case("paged/roofline", BASE, rate=3.0, duration=30.0, kv_slots=6400, cost_model="roofline"),
)
