"""The result for vLLM's tools: their names, our numbers, and nothing invented."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pagedbench.config import ConfigError
from pagedbench.tools.report.vllm_result import vllm_lines, vllm_result
from runs.saved_runs import small_run

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.runs.saved import SavedRun


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SavedRun:
    return small_run(tmp_path_factory.mktemp("vllm") / "run", rate=4.0)


def test_fields_agree_with_the_summary(run: SavedRun) -> None:
    result = vllm_result(run)
    values = run.values
    for name in ("completed", "failed", "request_throughput", "output_throughput"):
        assert result[name] == values[name]
    assert result["duration"] == values["duration_s"]
    assert result["total_token_throughput"] == values["total_token_throughput"]
    assert result["num_prompts"] == values["num_requests"]
    for name, column, scale in (
        ("mean_ttft_ms", "ttft_mean_ms", 1),
        ("median_ttft_ms", "ttft_p50_ms", 1),
        ("p99_ttft_ms", "ttft_p99_ms", 1),
        ("mean_tpot_ms", "tpot_mean_ms", 1),
        ("p99_itl_ms", "itl_p99_ms", 1),
        ("median_e2el_ms", "e2el_p50_s", 1000),
    ):
        assert result[name] == pytest.approx(scale * values[column], rel=1e-6)
    assert result["std_ttft_ms"] == pytest.approx(np.std(run.requests["ttft_ms"]))
    tokens = result["total_input_tokens"] + result["total_output_tokens"]
    assert tokens / values["duration_s"] == pytest.approx(values["total_token_throughput"])


def test_it_says_what_it_is(run: SavedRun) -> None:
    result = vllm_result(run)
    assert (result["date"], result["backend"], result["model_id"]) == (
        "20250131-120005",
        "pagedbench",
        "opt-13b",
    )
    assert (result["is_simulated"], result["device"]) == (True, "sim:a100-40gb")
    assert (result["request_rate"], result["burstiness"]) == (4.0, 1.0)
    assert result["request_goodput"] is None
    for name in ("itls", "median_itl_ms", "std_itl_ms", "generated_texts", "tokenizer_id"):
        assert name not in result


def test_lists_are_by_request(run: SavedRun) -> None:
    result = vllm_result(run)
    lists = [result[name] for name in ("input_lens", "output_lens", "ttfts", "errors")]
    assert {len(item) for item in lists} == {run.values["num_requests"]}
    assert sum(result["input_lens"]) == result["total_input_tokens"]
    assert sum(result["output_lens"]) == result["total_output_tokens"]
    assert 1000 * np.mean(result["ttfts"]) == pytest.approx(result["mean_ttft_ms"])


def test_samples_count_as_output(tmp_path: Path) -> None:
    run = small_run(tmp_path / "n", n=2, temperature=1.0)
    result = vllm_result(run)
    rate = run.values["output_throughput"]
    assert result["total_output_tokens"] / run.values["duration_s"] == pytest.approx(rate)


def test_a_failed_request_has_no_output(tmp_path: Path) -> None:
    run = small_run(tmp_path / "small", kv_slots=256)
    result = vllm_result(run)
    failed = [index for index, error in enumerate(result["errors"]) if error]
    assert len(failed) == run.values["failed"] > 0
    assert {(result["output_lens"][index], result["ttfts"][index]) for index in failed} == {(0, 0.0)}
    assert sum(result["output_lens"]) == result["total_output_tokens"]


def test_rates_that_are_no_number(tmp_path: Path) -> None:
    run = small_run(tmp_path / "inf", rate=float("inf"), duration=None, num_requests=5)
    assert vllm_result(run)["request_rate"] == "inf"
    constant = vllm_result(small_run(tmp_path / "constant", arrival="constant"))
    assert constant["request_rate"] == 2.0
    assert "burstiness" not in constant


def test_a_line_a_run(run: SavedRun) -> None:
    lines = vllm_lines([run, run]).splitlines()
    assert [json.loads(line)["completed"] for line in lines] == [run.values["completed"]] * 2
    assert json.loads(vllm_lines([run])) == vllm_result(run)


def test_a_run_that_did_not_end_is_refused(run: SavedRun) -> None:
    with pytest.raises(ConfigError, match="is interrupted: vLLM's tools need"):
        vllm_result(replace(run, manifest=run.manifest | {"status": "interrupted"}))
