"""Throughput over the length of prompts: no cliff where they meet the token budget of an iteration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pagedbench.backend import SimulatedBackend
from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.plan import Plan

LLAMA_2_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}

NUM_REQUESTS, OUTPUT_LEN = 150, 200

EDGES = (854, 1279, 1280, 2400, 2450, 2500, 2550, 2559, 2560, 2561, 3000)
"""Lengths around a third, a half and the whole of the budget, which decodes take a part of."""


@pytest.fixture(scope="module", params=["paged", "orca-max"])
def plan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder: Path = tmp_path_factory.mktemp("llama-2-7b")
    (folder / "config.json").write_text(json.dumps(LLAMA_2_7B))
    return make_plan(
        RunConfig(system=request.param, model=str(folder), device="sim:a100-80gb", max_model_len=4096)
    )


def output_throughput(plan: Plan, prompt_len: int) -> float:
    """Output tokens per second of requests that all come at once."""
    requests = [
        Request(i, 0.0, Prompt(prompt_len, seed=i), SamplingParams(OUTPUT_LEN)) for i in range(NUM_REQUESTS)
    ]
    record = SimulatedBackend().make_engine(plan).run(FixedArrivals(requests))
    return NUM_REQUESTS * OUTPUT_LEN / float(record.steps.end[-1])


def test_no_length_serves_a_tenth_less_than_its_neighbour(plan: Plan) -> None:
    for prompt_len in EDGES:
        before, after = (output_throughput(plan, length) for length in (prompt_len, prompt_len + 1))
        assert after == pytest.approx(before, rel=0.1), prompt_len


def test_longer_prompts_serve_less_but_never_by_leaps(plan: Plan) -> None:
    lengths = range(2300, 2700, 25)
    found = [output_throughput(plan, length) for length in lengths]
    for length, before, after in zip(lengths[1:], found, found[1:], strict=False):
        assert after > 0.9 * before, length
