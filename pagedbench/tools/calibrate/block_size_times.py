"""Times decode attention on this machine at several block sizes, for a profile."""

from __future__ import annotations

import statistics
from dataclasses import replace
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


def measure_block_sizes(plan: Plan, backend: ModelBackend) -> BlockSizeTimes:
    """Paged time / contiguous time: the median of the ratios within rounds in which all sizes take turns.

    Raises:
        RuntimeError: an output is further from the reference than rounding explains.
    """
    sizes = sorted({*SIZES, plan.config.block_size})
    return BlockSizeTimes(_Decodes(plan, backend, sizes).factors(), KERNELS)


class _Decodes:
    """The same decodes on several pools, used in turn so that no call finds its operands in a cache."""

    def __init__(self, plan: Plan, backend: ModelBackend, sizes: list[int]) -> None:
        import torch

        device, shape = plan.config.device, plan.shape
        capacity = max(-(-CONTEXT // size) * size for size in sizes)  # slots per sequence
        self._ops, self._scale = backend.ops, shape.head_dim**-0.5
        self._cache = _pools(plan, BATCH * capacity)
        self._stopwatch = stopwatch_of(device)
        dtype = self._cache.keys[0].dtype
        self._query = torch.empty(BATCH, shape.num_heads, shape.head_dim, dtype=dtype, device=device)
        self._query.normal_()
        self._lens = torch.full((BATCH,), CONTEXT, dtype=torch.int32, device=device)
        self._placements = {size: _place(size, capacity, device) for size in (None, *sizes)}

    def factors(self) -> dict[int, float]:
        """Block size -> its time / the contiguous time."""
        for size in self._placements:
            self._check(size)
        calls = {size: max(round(SAMPLE_TIME / self._time(size, range(2))), 1) for size in self._placements}
        rounds = [
            {size: self._time(size, range(number, number + count)) for size, count in calls.items()}
            for number in range(ROUNDS)
        ]
        return {
            size: statistics.median(times[size] / times[None] for times in rounds)
            for size in self._placements
            if size is not None
        }

    def _time(self, size: int | None, calls: range) -> float:
        """Seconds per call."""
        run = partial(self._attend, size)
        return self._stopwatch.seconds(run, calls, len(self._cache.keys)) / len(calls)

    def _attend(self, size: int | None, pool: int) -> Tensor:
        addresses, _ = self._placements[size]
        keys, values = self._cache.keys[pool], self._cache.values[pool]
        return self._ops.attend_decode(self._query, keys, values, addresses, self._lens, self._scale)

    def _check(self, size: int | None) -> None:
        from pagedbench.ops.accuracy import bounded_attention

        out = self._attend(size, 0)
        for row, slots in enumerate(self._placements[size][1]):
            key, value = self._cache.keys[0][slots], self._cache.values[0][slots]
            expected = bounded_attention(self._query[row : row + 1], key, value, self._scale)
            if not expected.share(out[row : row + 1]) <= 1:
                raise RuntimeError("decode attention is wrong on this machine: nothing was timed")


def _pools(plan: Plan, num_slots: int) -> KVCache:
    """Pools filled with normally distributed numbers, each a layer of one cache."""
    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.ops.device import dtype_of

    dtype, shape = dtype_of(plan.config.dtype), plan.shape
    row_bytes = 2 * shape.num_kv_heads * shape.head_dim * dtype.itemsize
    number = max(-(-rotation_bytes(plan.config.device) // (num_slots * row_bytes)), 1)
    cache = KVCache(replace(shape, num_layers=number), num_slots, dtype, plan.config.device)
    for tensor in cache.tensors:
        tensor.normal_()
    return cache


def _place(block_size: int | None, capacity: int, device: str) -> tuple[Addresses, Tensor]:
    """Sequences in shuffled blocks, or (None) in shuffled extents of `capacity` slots.

    Returns:
        Their addresses, and the slot of every token.  # int64 [BATCH, CONTEXT]
    """
    import torch

    from pagedbench.ops.addresses import BlockTables, Extents

    size = block_size or capacity
    per_sequence = -(-CONTEXT // size)
    order = torch.randperm(BATCH * capacity // size, generator=torch.Generator().manual_seed(0))
    tables = order[: BATCH * per_sequence].view(BATCH, per_sequence)
    slots = (tables[:, :, None] * size + torch.arange(size)).flatten(1)[:, :CONTEXT].to(device)
    if block_size is None:
        return Extents((tables[:, 0] * size).to(device)), slots
    return BlockTables(tables.int().to(device), size), slots
