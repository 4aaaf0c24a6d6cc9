"""As many long requests run side by side as the windows' arithmetic says, simulated and in real memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from models.dense import greedy_reply
from models.folders import make_llama_folder
from pagedbench.clock import VirtualClock
from pagedbench.engine import Engine
from pagedbench.execution.kv_cache import KVCache
from pagedbench.execution.model_runner import ModelExecutor
from pagedbench.memory.groups.hybrid import Hybrid
from pagedbench.memory.layer_group import LayerGroup, equal_groups
from pagedbench.memory.pool_spec import PoolSpec
from pagedbench.ops.select import select_ops
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.scheduler import Limits
from pagedbench.simulation.cards import CARDS, MODERN
from pagedbench.simulation.executor import Simulated
from pagedbench.simulation.modern import modern_costs
from pagedbench.simulation.shapes import ModelShape
from pagedbench.workload.arrivals import FixedArrivals
from serving import loaded_model

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.metrics.records import RunRecord


def kinds_of(num_layers: int, window: int) -> tuple[LayerGroup, ...]:
    """As Gemma 3: every sixth layer sees all tokens."""
    full = tuple(range(5, num_layers, 6))
    local = tuple(layer for layer in range(num_layers) if layer not in full)
    return (LayerGroup(local, window), LayerGroup(full))


def run(memory: Hybrid, executor: Any, clock: VirtualClock, requests: list[Request], chunk_len: int) -> Any:
    limits = Limits(prefill="chunked", max_num_batched_tokens=4096, max_chunk_len=chunk_len)
    engine = Engine(IterationLevel(memory, limits), memory, executor, clock)
    return engine.run(FixedArrivals(requests))


def check(record: RunRecord, capacity: int, context: int, window: int) -> int:
    """The most requests that ran side by side."""
    steps, expected = record.steps, capacity / (context + 5 * window)  # slots of five groups and one
    num_running = int(steps["running"].max())
    assert abs(num_running / expected - 1) < 0.03
    parts = [steps[f"kv_{part}"] for part in ("token_states", "reserved", "internal", "external", "free")]
    assert (sum(parts) == capacity).all()
    assert record.owned_at_end == 0
    return num_running


def test_a_simulated_gemma_holds_what_its_windows_say() -> None:
    shape = ModelShape(
        "gemma-3-12b-like", "llama", 48, 3840, 16, 8, 256, 15360, 262_208, 131_072,
        layer_groups=kinds_of(48, 1024),
    )  # fmt: skip
    groups = equal_groups(shape.layer_groups)
    assert [len(group.layers or ()) for group in groups] == [8] * 6
    num_slots = 40 * 2**30 // (shape.kv_bytes_per_token(2) // 6)
    memory = Hybrid(PoolSpec(num_slots, 16, 16_384, watermark=0.0, layer_groups=groups, max_chunk_len=1024))
    clock = VirtualClock(modern_costs(shape, CARDS["h100"], 1, "paged", MODERN).step_time)
    requests = [Request(i, 0.0, Prompt(8192, i), SamplingParams(300)) for i in range(100)]
    record = run(memory, Simulated(), clock, requests, 1024)
    num_running = check(record, num_slots, 8192, 1024)
    assert num_running > 3.5 * (num_slots // 6 // 8192)  # that many with all tokens in all layers


def test_a_small_model_holds_as_many_in_real_memory(tmp_path: Path) -> None:
    """The same layers, a sixty-fourth of the lengths."""
    window, context, num_layers = 16, 128, 12
    folder = make_llama_folder(
        tmp_path / "model", num_layers=num_layers, hidden_size=16, num_heads=2, num_kv_heads=1
    )
    kinds = kinds_of(num_layers, window)
    loaded, groups = loaded_model(folder, kinds), equal_groups(kinds)
    cache = KVCache(loaded.shape, 70 * (context + 5 * window) // 6, torch.float32, "cpu").in_groups(groups)
    memory = Hybrid(PoolSpec(cache.num_slots, 1, 200, watermark=0.0, layer_groups=groups, max_chunk_len=16))
    executor = ModelExecutor.in_process(loaded.model, cache, memory, select_ops("cpu"))
    requests = [Request(i, 0.0, Prompt(context, i), SamplingParams(20)) for i in range(140)]
    record = run(memory, executor, VirtualClock(lambda batch: 1e-3), requests, 16)
    check(record, memory.num_slots, context, window)
    for number in (0, 139):
        prompt = requests[number].prompt.ids(loaded.shape.vocab_size).tolist()
        assert record.requests[number].outputs[0].token_ids == greedy_reply(loaded.model, prompt, 20)
