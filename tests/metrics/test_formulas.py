from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.builders import make_record, make_request, make_steps, many_requests, small_run
from pagedbench.metrics.formulas import METRICS, summarize
from pagedbench.metrics.slo import parse_slo

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord

LISTED = """
num_requests completed failed duration_s offered_rate request_throughput output_throughput
total_token_throughput goodput slo_attainment normalized_latency_mean_s normalized_latency_p50_s
normalized_latency_p90_s normalized_latency_p99_s ttft_mean_ms ttft_p50_ms ttft_p90_ms ttft_p99_ms
tpot_mean_ms tpot_p50_ms tpot_p90_ms tpot_p99_ms itl_mean_ms itl_p99_ms itl_max_ms e2el_mean_s
e2el_p50_s e2el_p99_s queue_time_mean_ms queue_time_p99_ms num_steps running_mean running_max
waiting_max kv_token_states_pct kv_reserved_pct kv_internal_pct kv_external_pct kv_free_pct
kv_shared_saved_pct preemptions_recompute preemptions_swap cow_copies overloaded valid
prefix_hit_pct blocks_swapped_in blocks_swapped_out
steady_request_throughput steady_output_throughput
ttft_p95_ms window_start_s window_duration_s window_request_throughput window_output_throughput
spike_recovery_s spike_ttft_before_ms spike_ttft_peak_ms spike_waiting_max spike_kv_peak_pct
spike_preemptions recomputed_tokens recompute_tax evicted_blocks
prefix_hit_device_pct prefix_hit_host_pct prefix_hit_disk_pct commit_time_mean_ms
"""
COLUMNS = LISTED.split()

PARTS = [name for name in COLUMNS if name.startswith("kv_") and "shared" not in name]


def test_columns_are_the_interface_in_order() -> None:
    assert [metric.name for metric in METRICS] == COLUMNS
    assert list(summarize(small_run())) == COLUMNS


def test_every_metric_is_explained() -> None:
    for metric in METRICS:
        assert metric.better in ("higher", "lower", "-")
        assert metric.definition.endswith(".")
        for suffix, unit in (("_ms", "ms"), ("_s", "s"), ("_pct", "%")):
            if metric.name.endswith(suffix):
                assert metric.unit.startswith(unit)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_requests", 3),
        ("completed", 3),
        ("failed", 0),
        ("duration_s", 5.5),
        ("offered_rate", 3 / 4.75),
        ("request_throughput", 3 / 5.5),
        ("output_throughput", 6 / 5.5),
        ("total_token_throughput", (35 + 6) / 5.5),
        ("normalized_latency_mean_s", (3.0 / 3 + 2.0 / 2 + 1.25) / 3),
        ("normalized_latency_p50_s", 1.0),
        ("normalized_latency_p90_s", 1.2),
        ("normalized_latency_p99_s", 1.245),
        ("ttft_mean_ms", 1250.0),
        ("ttft_p50_ms", 1250.0),
        ("ttft_p90_ms", 1450.0),
        ("ttft_p95_ms", 1475.0),
        ("ttft_p99_ms", 1495.0),
        ("tpot_mean_ms", 875.0),
        ("tpot_p50_ms", 875.0),
        ("tpot_p90_ms", 975.0),
        ("itl_mean_ms", 2500 / 3),
        ("itl_p99_ms", 1000.0),
        ("itl_max_ms", 1000.0),
        ("e2el_mean_s", 6.25 / 3),
        ("e2el_p50_s", 2.0),
        ("e2el_p99_s", 2.98),
        ("queue_time_mean_ms", 1250 / 3),
        ("queue_time_p99_ms", 500.0),
        ("num_steps", 4),
        ("running_mean", 1.5),
        ("running_max", 2),
        ("waiting_max", 1),
        ("kv_token_states_pct", (10 + 31 / 2 + 33 + 5) / 6),
        ("kv_reserved_pct", (2 + 1) / 6),
        ("kv_internal_pct", (2 + 4) / 6),
        ("kv_external_pct", (8 + 5 + 10) / 6),
        ("kv_free_pct", (80 + 53 / 2 + 53 + 95 + 100 * 2.5) / 6),
        ("kv_shared_saved_pct", 0.0),
        ("preemptions_recompute", 3),
        ("preemptions_swap", 0),
        ("cow_copies", 4),
        ("overloaded", False),
        ("valid", True),
    ],
)
def test_values_worked_out_by_hand(name: str, value: float) -> None:
    assert summarize(small_run())[name] == pytest.approx(value, rel=1e-12)


def test_without_bounds_there_is_no_goodput() -> None:
    values = summarize(small_run())
    assert (values["goodput"], values["slo_attainment"]) == (None, None)


def test_failed_requests_have_no_latency_but_count() -> None:
    without, with_failed = summarize(small_run()), summarize(small_run(with_failed=True))
    changed = {name for name in COLUMNS if without[name] != with_failed[name]}
    assert changed == {"num_requests", "failed", "offered_rate", "valid"}
    assert (with_failed["num_requests"], with_failed["failed"], with_failed["valid"]) == (4, 1, False)


def test_parallel_samples_count_as_output_but_not_as_length() -> None:
    record = small_run()
    first = record.requests[0]
    sampling = replace(first.request.sampling, n=4)
    parallel = replace(first, request=replace(first.request, sampling=sampling))
    values = summarize(replace(record, requests=(parallel, *record.requests[1:])))
    beams = replace(sampling, n=1, beam_width=4)
    searched = replace(first, request=replace(first.request, sampling=beams))
    other = summarize(replace(record, requests=(searched, *record.requests[1:])))
    assert other["output_throughput"] == values["output_throughput"]
    assert values["output_throughput"] == pytest.approx((6 + 3 * 3) / 5.5)
    assert values["total_token_throughput"] == pytest.approx((35 + 15) / 5.5)
    assert values["normalized_latency_mean_s"] == summarize(record)["normalized_latency_mean_s"]


def test_what_a_prefix_cache_found_and_what_was_swapped() -> None:
    assert summarize(small_run())["prefix_hit_pct"] is None  # nothing was looked up
    record = small_run()
    columns = {
        **record.steps.columns,
        "prefix_hits": np.array([0, 16, 0, 32]),
        "prefix_queried": np.array([20, 30, 0, 50]),
        "blocks_swapped_out": np.array([0, 5, 1, 0]),
        "blocks_swapped_in": np.array([0, 0, 2, 2]),
    }
    values = summarize(replace(record, steps=replace(record.steps, columns=columns)))
    assert values["prefix_hit_pct"] == 48.0
    assert (values["blocks_swapped_out"], values["blocks_swapped_in"]) == (6, 4)


@pytest.mark.parametrize(
    ("slo", "num_good"),
    [
        ("ttft:1.25s", 2),
        ("ttft:1249ms", 1),
        ("tpot:750ms", 2),  # request 2 has a single token, and so no tpot
        ("itl:999ms", 1),  # the longest gap counts
        ("e2el:2s normalized_latency:1s", 1),
        ("queue_time:250ms", 1),
        ("e2el:1ms", 0),
    ],
)
def test_goodput(slo: str, num_good: int) -> None:
    values = summarize(small_run(with_failed=True), parse_slo(slo))
    assert values["goodput"] == pytest.approx(num_good / 5.5)
    assert values["slo_attainment"] == num_good / 4


@pytest.mark.parametrize(
    "record",
    [
        make_record(make_steps([]), []),
        make_record(make_steps([]), [make_request(0, 0.0), make_request(1, 0.0)]),
        make_record(make_steps([(0, 1)]), [make_request(0, 0.0, admit=0.0, finish=1.0, spans=[(0, 0, 0)])]),
    ],
    ids=["nothing", "all failed", "one token"],
)
def test_what_is_not_defined_is_none_and_never_nan(record: RunRecord) -> None:
    values = summarize(record, parse_slo("ttft:1s"))
    assert not any(isinstance(value, float) and not math.isfinite(value) for value in values.values())
    assert values["tpot_mean_ms"] is None
    assert values["itl_p99_ms"] is None
    assert (values["ttft_mean_ms"] is None) == (values["completed"] == 0)
    assert (values["duration_s"] is None) == (values["completed"] == 0)


def test_values_are_plain_numbers() -> None:
    allowed = (int, float, bool, type(None))
    assert {type(value) for value in summarize(many_requests(50, 20)).values()} <= set(allowed)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 2),  # idle before
            st.floats(0.001, 2),  # duration
            st.lists(st.integers(0, 25), min_size=4, max_size=4),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_kv_parts_sum_to_the_pool(rows: list[tuple[float, float, list[int]]]) -> None:
    clock, times = 0.0, []
    for idle, duration, _ in rows:
        times.append((clock + idle, clock + idle + duration))
        clock = times[-1][1]
    parts = dict(zip(PARTS, zip(*(parts for _, _, parts in rows), strict=True), strict=False))
    steps = make_steps(times, **{name.removesuffix("_pct"): values for name, values in parts.items()})
    values = summarize(make_record(steps, []))
    assert sum(values[name] for name in PARTS) == pytest.approx(100)
    # As a Riemann sum: look at the pool at many moments.
    moments = (np.arange(20_000) + 0.5) * clock / 20_000
    index = np.searchsorted(steps.start, moments, side="right") - 1
    inside = (index >= 0) & (moments < steps.end[index])
    held = np.where(inside, steps["kv_token_states"][index], 0)
    assert values["kv_token_states_pct"] == pytest.approx(held.mean(), abs=0.05)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_percentiles_interpolate_linearly(waits: list[float]) -> None:
    steps = make_steps([(0.0, 200.0)])
    requests = [
        make_request(i, 0.0, admit=wait, finish=200.0, spans=[(0, 0, 0)]) for i, wait in enumerate(waits)
    ]
    values = summarize(make_record(steps, requests))
    rank = 0.99 * (len(waits) - 1)
    low, high = sorted(waits)[math.floor(rank)], sorted(waits)[math.ceil(rank)]
    assert values["queue_time_p99_ms"] == pytest.approx(1000 * (low + (rank % 1) * (high - low)), abs=1e-6)
