"""Costs of a swap are measured, and the measurement leaves the pool as it was."""

from __future__ import annotations

import torch

from pagedbench.execution.kv_cache import KVCache
from pagedbench.execution.return_costs import MeasuredCosts, swap_seconds
from pagedbench.ops.select import select_ops
from pagedbench.simulation.shapes import ModelShape

SHAPE = ModelShape("tiny", "llama", 3, 64, 8, 2, 8, 64, 100, 64)


def test_a_measured_swap_leaves_the_pool_as_it_was():
    cache = KVCache(SHAPE, 40, torch.float32, "cpu")
    cache.reserve_host(40)
    for tensor in cache.tensors:
        tensor.copy_(torch.rand(tensor.shape))
    before = [tensor.clone() for tensor in cache.tensors]
    seconds = swap_seconds(cache, select_ops("cpu"), 30, 7)  # the last block is not full
    assert seconds > 0
    assert all(torch.equal(now, then) for now, then in zip(cache.tensors, before, strict=True))


def test_costs_grow_with_tokens():
    costs = MeasuredCosts(recompute=2.0, swap=0.5)
    assert (costs.recompute_time(10), costs.swap_time(10)) == (20.0, 5.0)
