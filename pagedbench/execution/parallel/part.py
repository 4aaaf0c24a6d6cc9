"""Part: one rank's part of a model, of the KV pool, and of every engine that runs on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.execution.disk_file import DiskFile
from pagedbench.execution.kv_cache import KVCache
from pagedbench.execution.model_runner import ModelRunner
from pagedbench.execution.pools import Pools
from pagedbench.models.shard_loader import load_shard
from pagedbench.ops.device import dtype_of
from pagedbench.ops.select import select_ops

if TYPE_CHECKING:
    from pagedbench.execution.parallel.group import RankGroup
    from pagedbench.execution.parallel.messages import Load, NewEngine
    from pagedbench.models.loader import LoadedModel
    from pagedbench.ops.interface import Ops


@dataclass(frozen=True, slots=True)
class EnginePart:
    """One rank's part of an engine."""

    runner: ModelRunner
    disk: DiskFile | None

    def end_read(self) -> bool:
        """Wait for the read that is under way. Returns whether it has succeeded."""
        assert self.disk is not None, "the engine has no disk"
        while (answer := self.disk.poll()) is None:
            self.disk.wait_for_read()
        return answer


class Part:
    """One rank's part of a model and of the KV pool."""

    def __init__(self, load: Load, group: RankGroup) -> None:
        """Load it. All ranks do so at the same time.

        Raises:
            ConfigError: the model cannot be loaded or divided, or the pool does not fit the device.
        """
        group.use(load.device)
        dtype = dtype_of(load.dtype)
        self.ops: Ops = select_ops(load.device, load.kernels, dtype)
        self.loaded: LoadedModel = load_shard(
            load.model,
            group,
            load_format=load.load_format,
            dtype=dtype,
            device=load.device,
            seed=load.seed,
            ops=self.ops,
            std=load.std,
        )
        cache = KVCache(self.loaded.shape, load.kv_slots, dtype_of(load.kv_dtype), load.device)
        self.pools = Pools(self.loaded.shape, cache)
        self._decides = group.rank == 0

    def engine(self, new: NewEngine) -> EnginePart:
        """The part of a new engine.

        Raises:
            ConfigError: its file on the disk cannot be made.
        """
        cache = self.pools.of(new.layout)
        runner = ModelRunner.over(self.loaded.model, cache, self.ops, new.layout, decides=self._decides)
        disk = DiskFile(cache, new.num_disk_slots, new.disk_folder) if new.num_disk_slots else None
        return EnginePart(runner, disk)
