from __future__ import annotations

import json
import math
import os
import tomllib
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.builders import many_requests, small_run
from pagedbench.config import RunConfig
from pagedbench.metrics.records import Output
from pagedbench.runs.machine_load import Load
from pagedbench.runs.result import summary_row
from pagedbench.runs.saved import load_run
from pagedbench.runs.toml import config_toml
from runs.results import make_plain_result, rows, saved, simulated_result

if TYPE_CHECKING:
    from pathlib import Path

REQUESTS_HEADER = (
    "request_id,arrival_s,admit_s,first_token_s,finish_s,prompt_len,output_len,n,queue_time_ms,ttft_ms,"
    "tpot_ms,e2el_s,normalized_latency_s,preemptions,recomputed_tokens,cached_tokens,session_id,status"
)
STEPS_HEADER = (
    "step,t_s,step_ms,running,waiting,swapped,prefill_tokens,decode_tokens,kv_token_states,kv_reserved,"
    "kv_internal,kv_external,kv_free,kv_rounding,kv_unusable,kv_shared,preemptions_recompute,"
    "preemptions_swap,blocks_swapped_in,blocks_swapped_out,cow_copies,prefix_hits,prefix_queried,"
    "recomputed_tokens,evicted_blocks,blocked_by"
)


def test_requests_csv(tmp_path: Path) -> None:
    saved(make_plain_result(small_run(with_failed=True)), tmp_path / "run")
    lines = (tmp_path / "run" / "requests.csv").read_text(encoding="utf-8").splitlines()
    assert lines == [
        REQUESTS_HEADER,
        "0,0.500000000,1.000000000,2.000000000,3.500000000,10,3,1,500.000000000,1500.000000000,"
        "750.000000000,3.000000000,1.000000000,0,0,0,,completed",
        "1,1.500000000,2.000000000,2.500000000,3.500000000,20,2,1,500.000000000,1000.000000000,"
        "1000.000000000,2.000000000,1.000000000,0,0,0,,completed",
        "2,4.750000000,5.000000000,6.000000000,6.000000000,5,1,1,250.000000000,1250.000000000,"
        ",1.250000000,1.250000000,0,0,0,,completed",
        "3,5.250000000,,,,500,4,1,,,,,,0,0,0,,failed",
    ]


def test_steps_csv(tmp_path: Path) -> None:
    saved(make_plain_result(), tmp_path / "run")
    lines = (tmp_path / "run" / "steps.csv").read_text(encoding="utf-8").splitlines()
    assert lines == [
        STEPS_HEADER,
        "0,1.000000000,1000.000000000,1,1,0,10,0,10,2,0,8,80,8,0,0,0,0,0,0,0,0,0,0,0,nothing",
        "1,2.000000000,500.000000000,2,0,0,20,1,31,2,4,10,53,6,4,0,1,0,0,0,0,0,0,0,0,nothing",
        "2,2.500000000,1000.000000000,2,0,0,0,2,33,0,4,10,53,6,4,0,2,0,0,0,3,0,0,0,0,nothing",
        "3,5.000000000,1000.000000000,1,0,0,5,0,5,0,0,0,95,0,0,0,0,0,0,0,1,0,0,0,0,nothing",
    ]


def test_summary_csv_is_the_row(tmp_path: Path) -> None:
    result = make_plain_result(many_requests(50, 20))
    saved(result, tmp_path / "run")
    (cells,) = rows(tmp_path / "run" / "summary.csv")
    row = summary_row(result)
    assert list(cells) == list(row)
    for name, value in row.items():
        if isinstance(value, float):
            assert float(cells[name]) == pytest.approx(value, rel=1e-9)
        else:
            assert cells[name] == ("" if value is None else str(value))


def test_summary_json_has_units_and_intervals(tmp_path: Path) -> None:
    result = simulated_result("orca-pow2")
    saved(result, tmp_path / "run")
    document = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    ttft = document["latency"]["ttft_p99_ms"]
    assert (ttft["value"], ttft["unit"], ttft["n"]) == (
        result.values["ttft_p99_ms"],
        "ms",
        len(result.trace.requests),
    )
    assert ttft["interval_95"][0] <= ttft["value"] <= ttft["interval_95"][1]
    topics = ("requests", "throughput", "latency", "batch", "memory", "verdict", "spike")
    nested = [entry for topic in topics for entry in document[topic].items()]
    assert {name: entry["value"] for name, entry in nested} == result.values
    parts = document["memory_parts"]
    for mean in ("mean_over_time", "mean_over_iterations"):
        shares = parts[mean]
        five = ("token_states", "reserved", "internal", "external", "free")
        assert sum(shares[f"kv_{part}_pct"] for part in five) == pytest.approx(100)
        assert shares["kv_rounding_pct"] + shares["kv_unusable_pct"] == pytest.approx(
            shares["kv_external_pct"]
        )
    assert parts["mean_over_iterations"]["kv_shared_saved_pct"] == 0


def test_manifest(tmp_path: Path) -> None:
    record = replace(small_run(with_failed=True), owned_at_end=3)
    saved(make_plain_result(record, command="pagedbench run --rate 1"), tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["schema_version"], manifest["status"], manifest["valid"]) == (1, "complete", False)
    assert len(manifest["invalid_because"]) == 2
    assert manifest["command"] == "pagedbench run --rate 1"
    assert (manifest["started"], manifest["ended"]) == ("2025-01-31T12:00:05Z", "2025-01-31T12:00:11Z")
    assert manifest["seeds"] == {"seed": 0}
    assert manifest["plan"]["weights"] == "none (simulated)"
    assert manifest["plan"]["cost_model"]
    assert len(manifest["trace"]["sha256"]) == len(manifest["trace"]["arrivals_sha256"]) == 64
    assert (manifest["trace"]["num_dropped"], manifest["trace"]["source"]) == (7, "written by hand")
    assert manifest["trace"]["dropped"] == {
        "num_rows": 70, "share": 0.1, "num_empty": 3, "num_too_long": 4, "max_model_len": 2048,
        "mean_prompt_len_before": 300.0, "mean_prompt_len_after": 200.0,
    }  # fmt: skip
    assert {"pagedbench", "python", "numpy", "pandas"} <= set(manifest["versions"])
    assert manifest["machine"]["cores"] == os.cpu_count()
    assert manifest["memory_bandwidth"] == {"before": None, "after": None}


def test_readings_of_memory_are_kept(tmp_path: Path) -> None:
    saved(replace(make_plain_result(), bandwidths=(60e9, None)), tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.manifest["memory_bandwidth"] == {"before": 60e9, "after": None}
    assert run.bandwidths == [60e9]
    del run.manifest["memory_bandwidth"]  # of an earlier version
    assert run.bandwidths == []


def test_the_load_of_the_machine_is_kept(tmp_path: Path) -> None:
    load = Load(wall_s=159.0, cpu_s=5.0, cores=2, foreign_cores=1.9, cpu_share=0.03)
    saved(replace(make_plain_result(), load=load), tmp_path / "run")
    run = load_run(tmp_path / "run")
    figures = {"wall_s": 159.0, "cpu_s": 5.0, "cores": 2, "foreign_cores": 1.9, "cpu_share": 0.03}
    assert run.manifest["machine_load"] == run.summary["machine_load"] == {**figures, "busy": True}
    assert (run.values["valid"], run.is_busy, run.is_usable) == (True, True, False)
    for silent in (None, {"busy": None}, 1):  # not known, or damaged
        run.manifest["machine_load"] = silent
        assert (run.is_busy, run.is_usable) == (False, True)


def test_an_interrupted_run_is_marked(tmp_path: Path) -> None:
    record = replace(small_run(), interrupted=True, num_arrived=9)
    saved(make_plain_result(record), tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["status"], manifest["valid"]) == ("interrupted", False)
    assert len(rows(tmp_path / "run" / "requests.csv")) == 3


def test_outputs(tmp_path: Path) -> None:
    record = small_run(with_failed=True)
    outputs = (Output((7, 8, 9), -1.25), Output((7, 8, 8), -2.5))
    record = replace(record, requests=(replace(record.requests[0], outputs=outputs), *record.requests[1:]))
    result = make_plain_result(record)
    saved(result, tmp_path / "run", save_outputs=True)
    text = (tmp_path / "run" / "outputs.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["request_id"], line["sequence"]) for line in lines] == [(0, 0), (0, 1), (1, 0), (2, 0)]
    prompt = record.requests[0].request.prompt.ids(result.plan.shape.vocab_size).tolist()
    assert lines[1] == {
        "request_id": 0,
        "sequence": 1,
        "prompt_token_ids": prompt,
        "token_ids": [7, 8, 8],
        "cumulative_logprob": -2.5,
    }


def test_infinite_rate_can_be_written(tmp_path: Path) -> None:
    config = RunConfig(model="opt-13b", device="sim:a100-40gb", rate=math.inf)
    saved(make_plain_result(config=config), tmp_path / "run")
    assert (
        json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["run"]["rate"] == "inf"
    )
    assert rows(tmp_path / "run" / "summary.csv")[0]["rate"] == "inf"
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text(encoding="utf-8"))["rate"] == math.inf


def test_a_simulation_has_no_log_probability(tmp_path: Path) -> None:
    saved(simulated_result(), tmp_path / "run", save_outputs=True)
    lines = (tmp_path / "run" / "outputs.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["cumulative_logprob"] for line in lines} == {None}


def test_equal_simulated_runs_are_equal_byte_for_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        saved(simulated_result(), tmp_path / name, save_outputs=True)
    for name in ("requests.csv", "steps.csv", "outputs.jsonl", "config.toml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for name in ("summary.csv", "summary.json", "manifest.json"):
        texts = [(tmp_path / folder / name).read_text(encoding="utf-8") for folder in ("a", "b")]
        ids = [rows(tmp_path / folder / "summary.csv")[0]["run_id"] for folder in ("a", "b")]
        assert texts[0].replace(ids[0], "") == texts[1].replace(ids[1], "")


def test_the_files_of_a_run_agree(tmp_path: Path) -> None:
    """What can be computed again from requests.csv and steps.csv is what the summary says."""
    result = simulated_result("orca-max")
    saved(result, tmp_path / "run")
    (summary,) = rows(tmp_path / "run" / "summary.csv")
    requests, steps = rows(tmp_path / "run" / "requests.csv"), rows(tmp_path / "run" / "steps.csv")
    duration = max(float(r["finish_s"]) for r in requests) - min(float(r["arrival_s"]) for r in requests)
    normalized = [float(r["e2el_s"]) / int(r["output_len"]) for r in requests]
    total = sum(int(r["output_len"]) for r in requests)
    assert float(summary["request_throughput"]) == pytest.approx(len(requests) / duration, rel=1e-6)
    assert float(summary["output_throughput"]) == pytest.approx(total / duration, rel=1e-6)
    expected = sum(normalized) / len(normalized)
    assert float(summary["normalized_latency_mean_s"]) == pytest.approx(expected, rel=1e-6)
    five = ("kv_token_states", "kv_reserved", "kv_internal", "kv_external", "kv_free")
    assert {sum(int(step[part]) for part in five) for step in steps} == {int(summary["kv_slots"])}
    assert sum(float(summary[f"{part}_pct"]) for part in five) == pytest.approx(100)
    assert all(float(r["ttft_ms"]) >= float(r["queue_time_ms"]) >= 0 for r in requests)


@given(
    trace=st.text(st.characters(exclude_categories=["Cs"])),
    rate=st.floats(min_value=0, exclude_min=True),
    label=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    seed=st.integers(0, 2**63),
)
def test_config_toml_repeats_the_options(trace: str, rate: float, label: str | None, seed: int) -> None:
    config = RunConfig(trace=trace, rate=rate, label=label, seed=seed)
    read = tomllib.loads(config_toml(config))
    assert RunConfig(**read) == config
    values = {option.name: getattr(config, option.name) for option in fields(config)}
    assert read == {name: value for name, value in values.items() if value is not None}


def test_the_resolved_config_resolves_to_itself(tmp_path: Path) -> None:
    from pagedbench.plan import make_plan

    for system in ("paged", "fastertransformer"):
        config = RunConfig(system=system, model="opt-13b", device="sim:a100-40gb", kv_memory="10GiB")
        result = make_plain_result(config=config)
        saved(result, tmp_path / system)
        read = tomllib.loads((tmp_path / system / "config.toml").read_text(encoding="utf-8"))
        assert make_plan(RunConfig(**read)) == result.plan
