"""Where sequences lie in the pools of a benchmark."""

from __future__ import annotations

import pytest
import torch

from pagedbench.tools.kernels.kv_pools import CHECKED_TOKENS, KVPools
from tools.kernels.small import small_setup


@pytest.mark.parametrize("block_size", [1, 5, 16])
def test_blocks_are_whole_shuffled_and_their_own(block_size: int) -> None:
    pools = KVPools(small_setup(block_sizes=(block_size,)), batch=7, context=37)
    placed = pools.placement(block_size)
    assert placed.form == "paged"
    assert placed.slots.unique().numel() == 7 * 37
    assert int(placed.slots.max()) < len(pools.keys[0])
    positions = torch.arange(37)
    expected = (
        placed.addresses.tables[:, positions // block_size].long() * block_size + positions % block_size
    )
    assert torch.equal(placed.slots, expected)
    assert (placed.addresses.tables.flatten().diff() != 1).any()


def test_extents_are_whole_shuffled_and_their_own() -> None:
    placed = KVPools(small_setup(), batch=7, context=37).placement(None)
    assert placed.form == "contiguous"
    assert placed.slots.unique().numel() == 7 * 37
    assert torch.equal(placed.slots, placed.addresses.starts[:, None] + torch.arange(37))
    assert (placed.addresses.starts.diff() < 0).any()


def test_copies_go_elsewhere() -> None:
    pools = KVPools(small_setup(), batch=4, context=20, copies=2)
    for block_size in (None, 16):
        source, target = pools.placement(block_size), pools.placement(block_size, copy=1)
        assert torch.cat([source.slots, target.slots]).unique().numel() == 2 * 4 * 20


def test_pools_together_exceed_the_footprint() -> None:
    setup = small_setup()
    pools = KVPools(setup, batch=2, context=16)
    one = 2 * 16 * setup.kv_row_bytes
    assert pools.num_pools * one >= setup.footprint > (pools.num_pools - 1) * one
    assert KVPools(setup, batch=40, context=64).num_pools == 1


def test_large_cases_are_checked_by_a_sample() -> None:
    pools = KVPools(small_setup(block_sizes=(1,)), batch=9, context=1)
    assert pools.sample() == list(range(9))
    pools.context = CHECKED_TOKENS // 4
    assert pools.sample() == [0, 3, 5, 8]
