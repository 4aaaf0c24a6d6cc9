"""The matrix of `pagedbench check`: small runs in which memory is short, pinned for ever."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pagedbench.config import RunConfig


@dataclass(frozen=True, slots=True)
class Case:
    """One run, in virtual time. `name` is "system/what it looks at"."""

    name: str
    config: RunConfig


BASE = RunConfig(model="opt-13b", device="sim:a100-40gb", cost_model="published", duration=40.0)
"""Published step times, so that a new fit of the cost model alarms its own case alone."""

SMALL_POOL = replace(BASE, kv_slots=4096, rate=2.5, duration=20.0)
"""Many preemptions: who is the victim shows within seconds."""

ALPACA = replace(BASE, trace="alpaca", kv_slots=4096, duration=None, num_requests=120)
"""Requests so short that the usual pool holds all of them."""

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

CASES = (
    *(
        Case(f"{system}/sharegpt", replace(BASE, system=system, rate=rate))
        for system, rate in SHAREGPT_RATES.items()
    ),
    *(
        Case(
            f"{system}/alpaca",
            replace(ALPACA, system=system, rate=rate),
        )
        for system, rate in ALPACA_RATES.items()
    ),
    Case("paged/n4", replace(BASE, n=4, temperature=1.0, rate=1.5)),
    Case("paged/beam4", replace(BASE, beam_width=4, rate=1.5, kv_slots=8192)),
    Case("orca-pow2/n4", replace(BASE, system="orca-pow2", n=4, temperature=1.0, rate=0.5)),
    Case("orca-oracle/beam4", replace(BASE, system="orca-oracle", beam_width=4, rate=1.0)),
    Case("paged/recompute", replace(SMALL_POOL, preemption="recompute")),
    Case("paged/swap", replace(SMALL_POOL, preemption="swap")),
    Case("paged/swap-n4", replace(SMALL_POOL, n=4, temperature=1.0, rate=1.0, swap_space="1GiB")),
    Case(
        "paged/shared-prefix",
        replace(ALPACA, rate=80.0, shared_prefix_len=200, shared_prefix_groups=3),
    ),
    Case(
        "paged/prefix-caching",
        replace(ALPACA, rate=24.0, shared_prefix_len=200, shared_prefix_groups=8, prefix_caching=True),
    ),
    Case(
        "fastertransformer/closed",
        replace(BASE, system="fastertransformer", rate=math.inf, duration=None, num_requests=30),
    ),
    Case(
        "fastertransformer/n4",
        replace(BASE, system="fastertransformer", n=4, temperature=1.0, batch_size=3),
    ),
    Case("paged/blocks-of-1", replace(SMALL_POOL, block_size=1)),
    Case("paged/blocks-of-8", replace(SMALL_POOL, block_size=8)),
    Case("paged/blocks-of-32", replace(SMALL_POOL, block_size=32)),
    Case("orca-max/blocks-of-32", replace(BASE, system="orca-max", block_size=32, rate=1.0)),
    Case("paged/prefill-separate", replace(SMALL_POOL, prefill="separate")),
    Case("paged/few-sequences", replace(BASE, rate=4.0, duration=20.0, max_num_seqs=24)),
    Case("paged/roofline", replace(BASE, rate=3.0, duration=30.0, kv_slots=6400, cost_model="roofline")),
)
