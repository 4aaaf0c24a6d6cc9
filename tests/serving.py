"""Serves a few prompts by a small model in any system, on any pool, by any decoding method."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import torch

from models.folders import hugging_face_beams, hugging_face_greedy
from pagedbench.clock import VirtualClock
from pagedbench.engine import Engine
from pagedbench.execution.disk_file import DiskFile
from pagedbench.execution.kv_cache import KVCache
from pagedbench.execution.model_runner import ModelExecutor
from pagedbench.memory.contiguous import EqualExtents
from pagedbench.memory.layer_group import ALL_LAYERS
from pagedbench.models.loader import LoadedModel, load_model
from pagedbench.ops.select import select_ops
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.admission import ADMISSIONS
from pagedbench.scheduling.scheduler import Limits
from pagedbench.scheduling.victims import VICTIMS
from pagedbench.simulation.cost_model import LINEAR_COST_MODELS
from pagedbench.systems import SYSTEMS
from pagedbench.workload.arrivals import FixedArrivals
from scheduling.in_chunks import InChunks

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.manager import KVManager
    from pagedbench.metrics.records import RunRecord
    from pagedbench.scheduling.samples import Executor
    from pagedbench.workload.arrivals import ArrivalSource

LENGTHS = [(5, 20), (17, 9), (1, 22), (30, 2), (16, 17), (8, 24), (33, 1), (12, 12)]
"""Prompts and replies around the edges of blocks."""

ROOMY, MAX_LEN, BLOCK_SIZE = 2048, 64, 8
MODELS = ("opt", "llama", "stories")
WIDTHS = (2, 4, 6)
STEP_TIMES = LINEAR_COST_MODELS["a100-40gb", "opt-13b", 1]

SAMPLINGS = {
    "2": SamplingParams(1, n=2, temperature=1.0, seed=1),
    "3-cool": SamplingParams(1, n=3, temperature=0.7, seed=2),
    "4-top-p": SamplingParams(1, n=4, temperature=1.0, top_p=0.9, seed=3),
    "3-top-k": SamplingParams(1, n=3, temperature=0.7, top_k=5, seed=4),
    "2-both": SamplingParams(1, n=2, temperature=0.7, top_k=20, top_p=0.8, seed=5),
}

GREEDY, BEAMS, SMALL_BEAMS = (
    SamplingParams(1),
    SamplingParams(1, beam_width=4),
    SamplingParams(1, beam_width=2),
)


@cache
def loaded_model(folder: Path, kinds: tuple[LayerGroup, ...] = (ALL_LAYERS,)) -> LoadedModel:
    """`kinds`: windows that the model's layers are given."""
    loaded = load_model(str(folder), dtype=torch.float32)
    shape = loaded.model.shape = replace(loaded.shape, layer_groups=kinds)
    return replace(loaded, shape=shape)


@cache
def prompts_of(folder: Path) -> tuple[tuple[int, ...], ...]:
    vocab_size = loaded_model(folder).shape.vocab_size
    return tuple(tuple(Prompt(p, seed=i).ids(vocab_size).tolist()) for i, (p, _) in enumerate(LENGTHS))


@cache
def reference_beams(folder: Path, width: int) -> list[list[tuple[tuple[int, ...], float]]]:
    return hugging_face_beams(folder, prompts_of(folder), [o for _, o in LENGTHS], width)


@cache
def reference_greedy(folder: Path) -> list[list[int]]:
    return hugging_face_greedy(folder, prompts_of(folder), [o for _, o in LENGTHS])


def requests_of(folder: Path, *samplings: SamplingParams, gap: float = 0.0) -> list[Request]:
    """The prompts, decoded by the given methods in turn."""
    return [
        Request(
            i,
            gap * i,
            Prompt(len(ids), token_ids=ids),
            replace(samplings[i % len(samplings)], max_tokens=LENGTHS[i][1]),
        )
        for i, ids in enumerate(prompts_of(folder))
    ]


def memory_of(system: str, kv_slots: int) -> KVManager:
    manager = SYSTEMS[system].manager
    if manager is EqualExtents:
        return EqualExtents(kv_slots, BLOCK_SIZE, MAX_LEN, batch_size=3)
    return manager(kv_slots, BLOCK_SIZE, MAX_LEN)


def engine_of(
    system: str,
    memory: KVManager,
    executor: Executor,
    preemption: str,
    max_chunk: int | None = None,
    chunked: int | None = None,
    admission: str = "watermark",
    victim: str = "latest",
) -> Engine:
    """An engine whose prompts are computed whole, or in one of two ways in chunks.

    Args:
        max_chunk: every prompt computes at most this many tokens in an iteration.
        chunked: an iteration computes at most this many tokens, decodes first.
    """
    limits = Limits(preemption=preemption, victim=VICTIMS[victim](), admission=ADMISSIONS[admission]())
    if chunked is not None:
        limits = replace(limits, prefill="chunked", max_num_batched_tokens=chunked)
    scheduler = SYSTEMS[system].scheduler(memory, limits)
    if max_chunk is not None:
        scheduler = InChunks(memory, limits, max_chunk)
    return Engine(scheduler, memory, executor, VirtualClock(STEP_TIMES.step_time))


def serve(
    folder: Path,
    requests: list[Request],
    system: str = "paged",
    kv_slots: int = ROOMY,
    preemption: str = "auto",
    *,
    memory: KVManager | None = None,
    source: ArrivalSource | None = None,
    max_chunk: int | None = None,
    chunked: int | None = None,
    admission: str = "watermark",
    victim: str = "latest",
    kinds: tuple[LayerGroup, ...] = (ALL_LAYERS,),
    kv_dtype: torch.dtype = torch.float32,
) -> RunRecord:
    """Serve the requests by the model, on a pool that holds NaN until it is written."""
    loaded, memory = loaded_model(folder, kinds), memory or memory_of(system, kv_slots)
    num_slots = memory.num_slots if memory.pages is None else memory.pages.num_addresses
    pool = KVCache(loaded.shape, num_slots, kv_dtype, "cpu").in_groups(memory.layer_groups)
    for tensor in pool.tensors:
        tensor.view(torch.int8).fill_(-1)  # the bits of NaN, also of a scale
    executor = ModelExecutor.in_process(loaded.model, pool, memory, select_ops("cpu"), save_logprobs=True)
    engine = engine_of(system, memory, executor, preemption, max_chunk, chunked, admission, victim)
    if memory.tiers is not None and memory.tiers.num_disk_slots:
        engine.disk = memory.tiers.disk = DiskFile(pool, memory.tiers.num_disk_slots, None)
    record = engine.run(source or FixedArrivals(requests))
    memory.check_integrity()
    assert record.owned_at_end == 0
    assert len(record.requests) == len(requests)
    return record


def outputs_of(record: RunRecord) -> list[list[tuple[int, ...]]]:
    return [[output.token_ids for output in item.outputs] for item in record.requests]
