"""Ranks that serve many models: their processes start once, which takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pagedbench.execution.input_builder import InputBuilder
from pagedbench.execution.model_runner import ModelExecutor, PoolLayout
from pagedbench.execution.parallel.launch import RunningRanks
from pagedbench.execution.parallel.layout import RankLayout
from pagedbench.execution.parallel.messages import Load
from pagedbench.workload.arrivals import FixedArrivals
from serving import ROOMY, engine_of, memory_of

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.execution.parallel.part import Part
    from pagedbench.memory.manager import KVManager
    from pagedbench.metrics.records import RunRecord
    from pagedbench.request import Request


class Cluster:
    """So many ranks on this machine, and the model that they have."""

    def __init__(self, num_ranks: int) -> None:
        self.ranks = RunningRanks(RankLayout(num_ranks, "gloo", 1, is_torchrun=False))
        self._key: object = None
        self._part: Part | None = None

    def load(
        self, folder: Path, kv_slots: int = ROOMY, kv_dtype: str = "float32", std: float = 0.3
    ) -> Part:
        """Rank 0's part of a model; real weights where there are any, else of deviation `std`."""
        key = (folder, kv_slots, kv_dtype)
        if self._part is None or key != self._key:
            load_format = "auto" if (folder / "model.safetensors").exists() else "dummy"
            load = Load(
                str(folder), load_format, "float32", kv_dtype, "cpu", "auto", kv_slots, seed=0, std=std
            )
            self._part, self._key = self.ranks.leader.load(load), key
        return self._part

    def serve(
        self,
        folder: Path,
        requests: list[Request],
        system: str = "paged",
        kv_slots: int = ROOMY,
        preemption: str = "auto",
        *,
        memory: KVManager | None = None,
        chunked: int | None = None,
        kv_dtype: str = "float32",
    ) -> RunRecord:
        """As `serving.serve`, by all ranks."""
        memory = memory or memory_of(system, kv_slots)
        part = self.load(folder, kv_dtype=kv_dtype)
        for tensor in part.pools.cache.tensors:
            tensor.view(torch.int8).fill_(-1)  # the bits of NaN, also of a scale
        layout = PoolLayout.of(memory, save_logprobs=True)
        num_disk_slots = 0 if memory.tiers is None else memory.tiers.num_disk_slots
        runner, disk = self.ranks.leader.engine(part, layout, num_disk_slots)
        executor = ModelExecutor(InputBuilder(memory, part.loaded.shape.vocab_size), runner)
        engine = engine_of(system, memory, executor, preemption, chunked=chunked)
        if disk is not None and memory.tiers is not None:
            engine.disk = memory.tiers.disk = disk
        record = engine.run(FixedArrivals(requests))
        memory.check_integrity()
        assert record.owned_at_end == 0
        assert len(record.requests) == len(requests)
        return record
