from __future__ import annotations

from dataclasses import replace

from metrics.builders import small_run
from pagedbench.config import RunConfig
from pagedbench.request import SamplingParams
from pagedbench.runs.result import summary_row
from runs.results import make_plain_result

LISTED = """
run_id label system model device dtype kv_dtype kernels trace trace_sha256 arrival rate burstiness n
beam_width seed block_size kv_slots cost_model tensor_parallel_size max_num_seqs max_num_batched_tokens
preemption victim admission prefix_caching eviction prefill watermark
page_size commit_ahead kept_pages
num_requests completed failed duration_s offered_rate
request_throughput output_throughput total_token_throughput goodput slo_attainment normalized_latency_mean_s
normalized_latency_p50_s normalized_latency_p90_s normalized_latency_p99_s ttft_mean_ms ttft_p50_ms
ttft_p90_ms ttft_p99_ms tpot_mean_ms tpot_p50_ms tpot_p90_ms tpot_p99_ms itl_mean_ms itl_p99_ms
itl_max_ms e2el_mean_s e2el_p50_s e2el_p99_s queue_time_mean_ms queue_time_p99_ms num_steps
running_mean running_max waiting_max kv_token_states_pct kv_reserved_pct kv_internal_pct
kv_external_pct kv_free_pct kv_shared_saved_pct preemptions_recompute preemptions_swap cow_copies
overloaded valid prefix_hit_pct blocks_swapped_in blocks_swapped_out
steady_request_throughput steady_output_throughput
ttft_p95_ms window_start_s window_duration_s window_request_throughput window_output_throughput
spike_recovery_s spike_ttft_before_ms spike_ttft_peak_ms spike_waiting_max spike_kv_peak_pct
spike_preemptions recomputed_tokens recompute_tax evicted_blocks
prefix_hit_device_pct prefix_hit_host_pct prefix_hit_disk_pct commit_time_mean_ms
"""


def test_the_row_has_the_columns_of_the_interface_in_order() -> None:
    assert list(summary_row(make_plain_result())) == LISTED.split()


def test_the_row_says_what_ran() -> None:
    config = RunConfig(
        system="vllm", model="opt-13b", device="sim:a100-40gb", rate=1.5, seed=3, label="mine", kv_slots=165
    )
    result = make_plain_result(config=config, name="own")
    row = summary_row(result)
    expected = {
        "run_id": result.run_id,
        "label": "mine",
        "system": "paged",
        "model": "opt-13b",
        "device": "sim:a100-40gb",
        "dtype": "float16",
        "kernels": "simulated",
        "trace": "own",
        "trace_sha256": result.trace.sha256,
        "arrival": "poisson",
        "rate": 1.5,
        "burstiness": 1.0,
        "n": 1,
        "beam_width": None,
        "seed": 3,
        "block_size": 16,
        "kv_slots": 160,
        "completed": 3,
        "duration_s": 5.5,
        "valid": True,
    }
    assert {name: row[name] for name in expected} == expected


def test_the_row_says_how_replies_were_decoded_if_all_alike() -> None:
    result = make_plain_result()

    def cells(*samplings: SamplingParams) -> tuple[object, object]:
        requests = [
            replace(request, sampling=sampling)
            for request, sampling in zip(result.trace.requests, samplings, strict=True)
        ]
        row = summary_row(replace(result, trace=replace(result.trace, requests=tuple(requests))))
        return row["n"], row["beam_width"]

    beams = SamplingParams(5, beam_width=4)
    assert cells(beams, replace(beams, max_tokens=6), beams) == (1, 4)
    assert cells(*[SamplingParams(5, 3, temperature=1.0)] * 3) == (3, None)
    assert cells(beams, beams, SamplingParams(5)) == (None, None)


def test_every_run_has_a_name_of_its_own() -> None:
    first, second = make_plain_result(), make_plain_result()
    assert first.run_id != second.run_id
    assert first.run_id.startswith("20250131-120005-paged-")
    assert first.values == second.values


def test_status() -> None:
    assert make_plain_result().status == "complete"
    result = make_plain_result(replace(small_run(), interrupted=True))
    assert (result.status, result.values["valid"]) == ("interrupted", False)


def test_bounds_come_from_the_plan() -> None:
    config = RunConfig(model="opt-13b", device="sim:a100-40gb", slo="ttft:1s")
    result = make_plain_result(config=config)
    assert result.slo is not None
    assert result.values["slo_attainment"] == 1 / 3
    assert make_plain_result().slo is None
