"""Copies of sequences within the pool: block by block, or extent by extent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.tools.kernels.cases import TORCH, Accuracy, Case, Form, Variant, Work, equality
from pagedbench.tools.kernels.kv_pools import KVPools

if TYPE_CHECKING:
    from pagedbench.ops.interface import Ops
    from pagedbench.tools.kernels.cases import Run, Setup
    from pagedbench.tools.kernels.kv_pools import Placement


def copy_case(setup: Setup, batch: int, context: int) -> Case:
    """Copies `batch` sequences of `context` tokens to other blocks, or to other extents."""
    pools = KVPools(setup, batch, context, copies=2)
    pairs = {size: (pools.placement(size), pools.placement(size, copy=1))
             for size in (None, *setup.block_sizes)}  # fmt: skip
    variants = [
        Variant(ops.name, source.form, _by(ops, pools, source, target), size)
        for size, (source, target) in pairs.items()
        for ops in setup.kernels
    ]
    variants.append(Variant(TORCH, Form.CONTIGUOUS, _by_slots(pools, *pairs[None])))

    def check(variant: Variant) -> Accuracy:
        source, target = (placement.slots for placement in pairs[variant.block_size])
        caches = pools.caches(-1)
        for cache in caches:
            cache[target] = 0.0
        expected = [cache.clone() for cache in caches]
        for cache in expected:
            cache[target] = cache[source]
        variant.run(pools.num_pools - 1)
        return equality(caches, expected)

    work = Work(2 * batch * context * setup.kv_row_bytes)
    return Case("copy", batch, context, setup.heads, work, pools.num_pools, variants, check)


def _by(ops: Ops, pools: KVPools, source: Placement, target: Placement) -> Run:
    """Copy runs of slots: each is a block, or an extent."""
    import torch

    size = source.block_size or pools.context
    lens = torch.tensor([min(size, pools.context - start) for start in range(0, pools.context, size)])
    heads = [placement.slots[:, ::size].flatten().cpu() for placement in (source, target)]
    runs = torch.stack([*heads, lens.repeat(pools.batch)], dim=1)  # int64 [num_runs, 3]
    return lambda pool: ops.copy_runs(pools.caches(pool), pools.caches(pool), runs)


def _by_slots(pools: KVPools, source: Placement, target: Placement) -> Run:
    sources, targets = source.slots.flatten(), target.slots.flatten()

    def run(pool: int) -> None:
        for cache in pools.caches(pool):
            cache.index_copy_(0, targets, cache.index_select(0, sources))

    return run
