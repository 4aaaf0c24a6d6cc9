"""Decode attention of this machine's kernels over the block size, for a profile."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pagedbench.runs.memory_bandwidth import rotation_bytes
from pagedbench.runs.stopwatch import stopwatch_of
from pagedbench.simulation.block_sizes import BlockSizeTimes
from pagedbench.simulation.profile import KERNELS

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.backend import ModelBackend
    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.ops.addresses import Addresses
    from pagedbench.plan import Plan

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCH, CONTEXT = 16, 512
ROUNDS, SAMPLE_TIME = 9, 0.0005


@dataclass(frozen=True, slots=True)
class _Placed:
    """`slots` is where every token lies.  # int64 [BATCH, CONTEXT]"""

    addresses: Addresses
    slots: Tensor


def measure_block_sizes(plan: Plan, backend: ModelBackend) -> BlockSizeTimes:
    """Times over contiguous: the median of ratios within rounds in which all sizes take turns.

    Raises:
        RuntimeError: an output is further from its definition than the arithmetic allows.
    """
    sizes = sorted({*SIZES, plan.config.block_size})
    return BlockSizeTimes(_Decodes(plan, backend, sizes).factors(), KERNELS)


class _Decodes:
    """The same decodes over pools that calls take in turn, so that none finds its operands in a cache."""

    def __init__(self, plan: Plan, backend: ModelBackend, sizes: list[int]) -> None:
        import torch

        device, shape = plan.config.device, plan.shape
        room = max(-(-CONTEXT // size) * size for size in sizes)
        self._ops, self._scale = backend.ops, shape.head_dim**-0.5
        self._cache = self._pools(plan, BATCH * room)
        self._stopwatch = stopwatch_of(device)
        dtype = self._cache.keys[0].dtype
        self._query = torch.empty(BATCH, shape.num_heads, shape.head_dim, dtype=dtype, device=device)
        self._query.normal_()
        self._lens = torch.full((BATCH,), CONTEXT, dtype=torch.int32, device=device)
        self._placed = {None: _extents(room, device)} | {
            size: _blocks(size, room, device) for size in sizes
        }

    def _pools(self, plan: Plan, num_slots: int) -> KVCache:
        """A pool is a layer of one cache."""
        from pagedbench.execution.kv_cache import KVCache
        from pagedbench.ops.device import dtype_of

        dtype, shape = dtype_of(plan.config.dtype), plan.shape
        row_bytes = 2 * shape.num_kv_heads * shape.head_dim * dtype.itemsize
        number = max(-(-rotation_bytes(plan.config.device) // (num_slots * row_bytes)), 1)
        cache = KVCache(replace(shape, num_layers=number), num_slots, dtype, plan.config.device)
        for tensor in cache.tensors:
            tensor.normal_()
        return cache

    def factors(self) -> dict[int, float]:
        """Block size -> times over contiguous."""
        for placed in self._placed.values():
            self._check(placed)
        times = {size: self._time(size, range(2)) for size in self._placed}
        calls = {size: max(round(SAMPLE_TIME / time), 1) for size, time in times.items()}
        rounds = [
            {size: self._time(size, range(number, number + count)) for size, count in calls.items()}
            for number in range(ROUNDS)
        ]
        return {
            size: statistics.median(times[size] / times[None] for times in rounds)
            for size in self._placed
            if size is not None
        }

    def _time(self, size: int | None, calls: range) -> float:
        """Seconds of a call."""
        placed = self._placed[size]
        run = partial(self._attend, placed)
        return self._stopwatch.seconds(run, calls, len(self._cache.keys)) / len(calls)

    def _attend(self, placed: _Placed, pool: int) -> Tensor:
        keys, values = self._cache.keys[pool], self._cache.values[pool]
        return self._ops.attend_decode(self._query, keys, values, placed.addresses, self._lens, self._scale)

    def _check(self, placed: _Placed) -> None:
        from pagedbench.ops.accuracy import bounded_attention

        out = self._attend(placed, 0)
        for row, slots in enumerate(placed.slots):
            key, value = self._cache.keys[0][slots], self._cache.values[0][slots]
            expected = bounded_attention(self._query[row : row + 1], key, value, self._scale)
            if not expected.share(out[row : row + 1]) <= 1:
                raise RuntimeError("decode attention is wrong on this machine: nothing was timed")


def _extents(room: int, device: str) -> _Placed:
    """In random order."""
    import torch

    from pagedbench.ops.addresses import Extents

    starts = torch.randperm(BATCH, generator=torch.Generator().manual_seed(0)) * room  # [BATCH]
    slots = starts[:, None] + torch.arange(CONTEXT)
    return _Placed(Extents(starts.to(device)), slots.to(device))


def _blocks(size: int, room: int, device: str) -> _Placed:
    """In random order."""
    import torch

    from pagedbench.ops.addresses import BlockTables

    per_sequence = -(-CONTEXT // size)
    order = torch.randperm(BATCH * room // size, generator=torch.Generator().manual_seed(0))
    tables = order[: BATCH * per_sequence].view(BATCH, per_sequence)
    slots = (tables[:, :, None] * size + torch.arange(size)).flatten(1)[:, :CONTEXT]
    return _Placed(BlockTables(tables.int().to(device), size), slots.to(device))
