"""What the field has measured, at a size that a test has time for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cli.command import make_command
from pagedbench.backend import SimulatedBackend
from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.runs.traces import trace_of
from pagedbench.tools.paper.field import CLOSED, FIGURES, OFFLINE, RULES
from pagedbench.tools.paper.field_setup import figures_of
from pagedbench.tools.paper.figure import Options
from pagedbench.tools.paper.figures import find_figures
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from pathlib import Path


def test_names() -> None:
    names = [figure.name for figure in FIGURES]
    assert names == ["watermark", "victims", "admission", "chunked-prefill"]
    found = find_figures(["field"])
    assert [figure.name for figure in found] == [*names, "hit-rates", "windows", "pages"]
    assert not {*names} & {figure.name for figure in find_figures(["all"])}
    assert [figure.name for figure in find_figures(["victims", "watermark"])] == ["watermark", "victims"]


def test_a_watermark_saves_preemptions_and_long_gaps() -> None:
    """With fewer requests than theirs, the first wave counts more, so the fall is smaller."""
    none, some = (
        figures_of(replace(CLOSED, num_requests=200, watermark=share), seed=0) for share in (0.0, 0.05)
    )
    assert none["preemptions"] > 2.5 * some["preemptions"]
    assert some["output_throughput"] > none["output_throughput"]
    assert some["itl_p99_ms"] <= none["itl_p99_ms"]


@pytest.mark.parametrize("share", [0.4, 0.2, 0.1])
def test_the_fields_order_of_victims(share: float) -> None:
    pool = replace(OFFLINE, kv_slots=int(share * OFFLINE.demand))
    wasted = [
        sum(figures_of(replace(pool, victim=rule), seed)["recomputed_tokens"] for seed in range(3))
        for rule in RULES
    ]
    assert wasted == sorted(wasted)
    assert wasted[0] < wasted[-1]


@pytest.mark.parametrize("name", ["admission", "chunked-prefill"])
def test_figures_from_end_to_end(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pagedbench = make_command(capsys)
    answer = pagedbench("reproduce", name, "--seeds", "1", "--jobs", "1", "--output", tmp_path / "out")
    assert answer.code == 0
    assert "Theirs: " in answer.out
    assert "simulated" in answer.out
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"{name}.csv", "scorecard.md", "manifest.json"} <= files
    verdicts = (tmp_path / "out" / "scorecard.csv").read_text().splitlines()[1:]
    always = {"admission": "off pressure", "chunked-prefill": "short prompts"}[name]
    assert any(always in line and ",holds," in line for line in verdicts)


def test_seeds_of_the_field() -> None:
    (figure, *_) = FIGURES
    assert len(figure.pieces(Options())) == 6 * 3
    assert len(figure.pieces(Options(num_seeds=1))) == 6


def test_hit_rates_need_their_traces(capsys: pytest.CaptureFixture[str]) -> None:
    answer = make_command(capsys)("reproduce", "hit-rates")
    assert answer.code == 2
    assert "give their files, as in --trace conversation=FILE" in answer.sentence


def test_chunks_halve_the_longest_gaps_on_long_prompts(test_data: Path) -> None:
    """At no more than 5 % less throughput (arXiv's lengths, everything at once)."""
    file = test_data / "longcontext" / "arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv.gz"
    found = {}
    for prefill, budget in (("mixed", 4096), ("chunked", 512)):
        config = RunConfig(
            trace=str(file), model="llama-2-7b", device="sim:a100-80gb", rate=float("inf"),
            num_requests=300, prefill=prefill, max_num_batched_tokens=budget, max_model_len=4096,
        )  # fmt: skip
        plan = make_plan(config)
        trace = trace_of(plan, load_dataset(config.trace))
        latencies = SimulatedBackend().make_engine(plan).run(trace.arrivals()).latencies
        gaps = (np.percentile(latencies.itl, 99.9), latencies.itl.max())
        found[prefill] = (latencies.output_len.sum() / latencies.finish.max(), *gaps)
    throughput, tail, longest = (
        chunked / mixed for chunked, mixed in zip(found["chunked"], found["mixed"], strict=True)
    )
    assert throughput >= 0.95
    assert tail <= 0.5
    assert longest <= 0.5
