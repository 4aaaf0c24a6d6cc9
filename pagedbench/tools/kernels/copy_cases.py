"""Copying sequences within the pool: block by block, or extent by extent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.tools.kernels.cases import TORCH, Accuracy, Case, Variant, Work, equality
from pagedbench.tools.kernels.kv_pools import KVPools

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from pagedbench.ops.interface import Ops
    from pagedbench.tools.kernels.cases import Setup
    from pagedbench.tools.kernels.kv_pools import Placed


def copy_case(setup: Setup, batch: int, context: int) -> Case:
    """`batch` sequences of `context` tokens, to other blocks, or to other extents."""
    pools = KVPools(setup, batch, context, copies=2)
    variants = []
    for size in (None, *setup.block_sizes):
        source, target = _places(pools, size)
        runs = _runs(source, target, context)
        for ops in setup.kernels:
            run = _copy_runs(ops, pools, runs)
            variants.append(
                Variant(ops.name, source.form, run, _check_copy(run, pools, source, target), size)
            )
    source, target = _places(pools, None)
    run = _copy_slots(pools, source, target)
    variants.append(Variant(TORCH, "contiguous", run, _check_copy(run, pools, source, target)))
    work = Work(2 * batch * context * setup.kv_row_bytes)
    return Case("copy", batch, context, setup.heads, work, pools.num_pools, tuple(variants))


def _places(pools: KVPools, block_size: int | None) -> tuple[Placed, Placed]:
    """Where to copy from and to; they share no slot."""
    if block_size is None:
        return pools.extents(), pools.extents(first=pools.batch)
    return pools.blocks(block_size), pools.blocks(block_size, first=pools.batch)


def _runs(source: Placed, target: Placed, context: int) -> Tensor:
    """One run a block, or an extent: source slot, destination slot, tokens.  # int64 [num_runs, 3]"""
    import torch

    size = source.block_size or context
    starts = range(0, context, size)
    lens = torch.tensor([min(size, context - start) for start in starts]).repeat(len(source.slots))
    heads = [placed.slots[:, ::size].flatten().cpu() for placed in (source, target)]
    return torch.stack([*heads, lens], dim=1)


def _copy_runs(ops: Ops, pools: KVPools, runs: Tensor) -> Callable[[int], object]:
    def run(pool: int) -> None:
        caches = (pools.keys[pool], pools.values[pool])
        ops.copy_runs(caches, caches, runs)

    return run


def _copy_slots(pools: KVPools, source: Placed, target: Placed) -> Callable[[int], object]:
    sources, targets = source.slots.flatten(), target.slots.flatten()

    def run(pool: int) -> None:
        for cache in (pools.keys[pool], pools.values[pool]):
            cache.index_copy_(0, targets, cache.index_select(0, sources))

    return run


def _check_copy(
    run: Callable[[int], object], pools: KVPools, source: Placed, target: Placed
) -> Callable[[], Accuracy]:
    def check() -> Accuracy:
        caches = [pools.keys[-1], pools.values[-1]]
        for cache in caches:
            cache[target.slots] = 0.0
        expected = [cache.clone() for cache in caches]
        for cache in expected:
            cache[target.slots] = cache[source.slots]
        run(pools.num_pools - 1)
        return equality(caches, expected)

    return check
