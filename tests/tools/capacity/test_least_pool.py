"""The least pool: it meets the bound, the next smaller one does not, and a device may have too little."""

from __future__ import annotations

import pytest

from pagedbench.tools.capacity.probe import Goal
from pagedbench.tools.capacity.report import meaning_sentences
from pagedbench.tools.capacity.rows import capacity_rows
from tools.capacity.searches import bounded, figures, found_by, make_search, tail

POOL = {"goal": Goal.KV_MEMORY, "tolerance": 0.05}


@pytest.mark.parametrize(
    ("system", "rate"),
    [("paged", 1.5), ("orca-oracle", 1.5), ("orca-max", 1.0), ("fastertransformer", 0.35)],
)
def test_the_next_smaller_pool_misses_the_bound(system: str, rate: float) -> None:
    options = {"device": "sim:a100-80gb", "duration": 100.0, "rate": rate}
    search = make_search(system, bounded(0.2), search=POOL, **options)
    (capacity,) = found_by(search).capacities
    least, smaller = capacity.sustained, capacity.missed
    assert least is not None
    assert smaller is not None
    assert figures(least)[0] <= 0.2
    assert smaller.plan.kv_slots < least.plan.kv_slots < search.plan.kv_slots
    assert least.plan.num_blocks - smaller.plan.num_blocks <= 1 + 0.05 * smaller.plan.num_blocks
    kinds = {"paged": "pool", "fastertransformer": "batch"}
    assert capacity.limit is not None
    assert capacity.limit.kind == kinds.get(system, "fragmentation")


def test_a_bound_that_any_pool_meets_needs_one_longest_request() -> None:
    search = make_search(criteria=tail("ttft:9000s", 0.9), search=POOL, duration=20.0)
    (capacity,) = found_by(search).capacities
    assert capacity.missed is None
    assert capacity.sustained is not None
    assert capacity.sustained.plan.kv_slots == 2048


def test_a_pool_with_requests_that_never_fit_does_not_do() -> None:
    search = make_search(criteria=tail("ttft:9000s", 0.5), search=POOL, duration=20.0, kv_slots=256)
    (row,) = capacity_rows(search, found_by(search))
    assert (row["kv_slots"], row["missed_kv_slots"], row["limited_by"]) == (None, 256, "pool")
    assert "paged: even the largest pool, 256 tokens, misses it." in meaning_sentences([row])


def test_more_than_the_device_has_is_said_so() -> None:
    exceeding = {**POOL, "may_exceed": True}
    search = make_search(criteria=tail("ttft:1s", 0.95), search=exceeding, duration=60.0, rate=3.0)
    (row,) = capacity_rows(search, found_by(search))
    assert search.plan.kv_slots == 15_696 < row["missed_kv_slots"] < row["kv_slots"]
    needs = "paged: needs more than the 15,696 tokens of the device."
    assert needs in meaning_sentences([row])
    search = make_search(criteria=tail("ttft:0.02s", 0.95), search=exceeding, duration=20.0)
    (row,) = capacity_rows(search, found_by(search))
    assert (row["kv_slots"], row["limited_by"]) == (None, "compute")
    no = "paged: no pool up to 8 times the 15,696 tokens of the device meets it."
    assert no in meaning_sentences([row])
