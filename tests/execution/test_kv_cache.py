"""The tensors behind the slots."""

from __future__ import annotations

import pytest
import torch

from execution.pools import back, moves_of, out
from pagedbench.execution.kv_cache import KVCache, KVCacheError
from pagedbench.memory.layer_group import LayerGroup
from pagedbench.memory.moves import Copy, Pool
from pagedbench.ops.select import select_ops
from pagedbench.simulation.shapes import ModelShape

OPS = select_ops("cpu")
SHAPE = ModelShape("tiny", "llama", 3, 64, 8, 2, 8, 64, 100, 64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_pair_a_layer(dtype):
    cache = KVCache(SHAPE, 40, dtype, "cpu")
    assert len(cache.keys) == len(cache.values) == 3
    assert len(cache.tensors) == 6
    assert all(tensor.shape == (40, 2, 8) and tensor.dtype == dtype for tensor in cache.tensors)
    assert all(tensor.is_contiguous() for tensor in cache.tensors)
    assert cache.num_bytes == sum(tensor.numel() * tensor.itemsize for tensor in cache.tensors)


def test_of_8_bits_a_row_holds_its_scale():
    cache, wide = (KVCache(SHAPE, 40, dtype, "cpu") for dtype in (torch.int8, torch.bfloat16))
    assert all(tensor.shape == (40, 2, 8 + 4) for tensor in cache.tensors)
    assert cache.num_bytes == sum(tensor.numel() for tensor in cache.tensors)
    assert (cache.head_dim, wide.head_dim) == (8, 8)


def test_layers_do_not_share_slots():
    cache = KVCache(SHAPE, 5, torch.float32, "cpu")
    for number, tensor in enumerate(cache.tensors):
        tensor.fill_(number)
    assert [tensor.unique().tolist() for tensor in cache.tensors] == [[number] for number in range(6)]


def test_the_first_slots_are_touched():
    cache = KVCache(SHAPE, 5, torch.float32, "cpu")
    for tensor in cache.tensors:
        tensor.fill_(1.0)
    cache.touch(3)
    assert [tensor[:, 0, 0].tolist() for tensor in cache.tensors] == [[0.0, 0.0, 0.0, 1.0, 1.0]] * 6


def test_a_pool_too_large_names_the_option():
    with pytest.raises(KVCacheError, match=r"slots for tiny takes .* GiB, .* lower --kv-slots") as error:
        KVCache(SHAPE, 10**14, torch.float32, "cpu")
    assert "\n" not in str(error.value)


def test_groups_go_to_the_host_and_come_back_elsewhere():
    cache = KVCache(SHAPE, 20, torch.float32, "cpu")
    cache.reserve_host(12)
    for tensor in cache.tensors:
        tensor.copy_(torch.rand(tensor.shape))
    before = [tensor.clone() for tensor in cache.tensors]
    cache.move(moves_of(out(4, 8, 4), out(16, 0, 4)), OPS)
    assert all(torch.equal(now, then) for now, then in zip(cache.tensors, before, strict=True))
    for tensor in cache.tensors:
        tensor.zero_()
    cache.move(moves_of(back(0, 4, 4), back(8, 12, 4)), OPS)
    for now, then in zip(cache.tensors, before, strict=True):
        assert torch.equal(now[4:8], then[16:20])
        assert torch.equal(now[12:16], then[4:8])
        assert not now[:4].any()
        assert not now[8:12].any()
        assert not now[16:].any()


def test_the_host_takes_no_memory_before_the_first_swap():
    cache = KVCache(SHAPE, 4, torch.float32, "cpu")
    cache.reserve_host(10**13)
    cache.move(moves_of(Copy(0, 1, 1)), OPS)
    with pytest.raises(KVCacheError, match=r"host pool of .* GiB .* lower --swap-space") as error:
        cache.move(moves_of(out(0, 0, 1)), OPS)
    assert "\n" not in str(error.value)


def test_a_host_pool_that_is_large_enough_keeps_what_it_holds():
    cache = KVCache(SHAPE, 4, torch.float32, "cpu")
    cache.reserve_host(4)
    for tensor in cache.tensors:
        tensor.fill_(7.0)
    cache.move(moves_of(out(0, 0, 4)), OPS)
    cache.reserve_host(3)
    for tensor in cache.tensors:
        tensor.zero_()
    cache.move(moves_of(back(3, 0, 1)), OPS)
    assert all(tensor[0].unique().tolist() == [7.0] for tensor in cache.tensors)
    cache.reserve_host(8)
    cache.move(moves_of(out(0, 7, 1)), OPS)
    assert cache.pool(Pool.HOST).shape[1] == 8


def test_copies_within_the_pool():
    cache = KVCache(SHAPE, 20, torch.float32, "cpu")
    for tensor in cache.tensors:
        tensor.copy_(torch.rand(tensor.shape))
    expected = [tensor.clone() for tensor in cache.tensors]
    cache.move(moves_of(Copy(0, 4, 4), Copy(4, 0, 4), Copy(9, 15, 2)), OPS)
    for tensor, wanted in zip(cache.tensors, expected, strict=True):
        wanted[[4, 5, 6, 7, 0, 1, 2, 3, 15, 16]] = wanted[[0, 1, 2, 3, 4, 5, 6, 7, 9, 10]]
        assert torch.equal(tensor, wanted)


def test_groups_share_the_memory_of_the_pool():
    """A pool of two layers and ten slots has twenty of one layer."""
    cache = KVCache(SHAPE, 10, torch.float32, "cpu")
    num_layers = SHAPE.num_layers
    groups = tuple(LayerGroup((layer,), window=4) for layer in range(num_layers))
    view = cache.in_groups(groups)
    assert cache.in_groups(groups) is view
    assert cache.in_groups((LayerGroup(window=3),)) is cache
    assert (view.num_slots, len(view.keys), view.num_bytes) == (10 * num_layers, 1, cache.num_bytes)
    view.values[0][-1].fill_(7.0)
    assert (cache.values[-1][-1] == 7.0).all()
    assert view.keys[0].data_ptr() == cache.keys[0].data_ptr()
    view.reserve_host(4)
    assert tuple(view.pool(Pool.HOST).shape[:2]) == (2, 4)
