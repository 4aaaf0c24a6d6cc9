"""The Triton kernels together: a model that runs on them says what Hugging Face's says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from pagedbench.execution.kv_cache import KVCache
from pagedbench.execution.model_runner import ModelExecutor
from pagedbench.models.loader import load_model
from pagedbench.workload.arrivals import FixedArrivals
from serving import GREEDY, ROOMY, engine_of, memory_of, outputs_of, reference_greedy, requests_of

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("triton")

NUM_REQUESTS, NUM_TOKENS = 3, 4


@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize(
    ("folder", "system"), [("llama", "paged"), ("opt", "paged"), ("llama", "orca-max")], indirect=["folder"]
)
def test_tokens_are_those_of_hugging_face(folder: Path, system: str) -> None:
    from pagedbench.ops import triton as ops

    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_model(str(folder), dtype=torch.float32, device=device, ops=ops)
    memory = memory_of(system, ROOMY)
    pool = KVCache(loaded.shape, memory.num_slots, torch.float32, device)
    for tensor in pool.tensors:
        tensor.fill_(float("nan"))
    executor = ModelExecutor.in_process(loaded.model, pool, memory, ops)
    requests = [
        replace(request, sampling=replace(request.sampling, max_tokens=NUM_TOKENS))
        for request in requests_of(folder, GREEDY)[:NUM_REQUESTS]
    ]
    record = engine_of(system, memory, executor, "auto").run(FixedArrivals(requests))
    expected = [tokens[:NUM_TOKENS] for tokens in reference_greedy(folder)[:NUM_REQUESTS]]
    assert [list(tokens) for (tokens,) in outputs_of(record)] == expected
