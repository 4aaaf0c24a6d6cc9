"""The tensors behind the slots."""

from __future__ import annotations

import pytest
import torch

from pagedbench.execution.kv_cache import KVCache, KVCacheError
from pagedbench.execution.shapes import ModelShape

SHAPE = ModelShape("tiny", "llama", 3, 64, 8, 2, 8, 64, 100, 64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_pair_a_layer(dtype):
    cache = KVCache(SHAPE, 40, dtype, "cpu")
    assert len(cache.keys) == len(cache.values) == 3
    assert len(cache.tensors) == 6
    assert all(tensor.shape == (40, 2, 8) and tensor.dtype == dtype for tensor in cache.tensors)
    assert all(tensor.is_contiguous() for tensor in cache.tensors)
    assert cache.num_bytes == sum(tensor.numel() * tensor.itemsize for tensor in cache.tensors)


def test_layers_do_not_share_slots():
    cache = KVCache(SHAPE, 5, torch.float32, "cpu")
    for number, tensor in enumerate(cache.tensors):
        tensor.fill_(number)
    assert [tensor.unique().tolist() for tensor in cache.tensors] == [[number] for number in range(6)]


def test_a_pool_too_large_names_the_option():
    with pytest.raises(KVCacheError, match=r"slots for tiny takes .* GiB, .* lower --kv-slots") as error:
        KVCache(SHAPE, 10**14, torch.float32, "cpu")
    assert "\n" not in str(error.value)
