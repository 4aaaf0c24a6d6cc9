"""Writing and copying slots: exact, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.select import Ops


def bits(tensor: Tensor) -> Tensor:
    """Comparable even where there is NaN."""
    return tensor.contiguous().view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def caches(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    key_cache = torch.randn(50, 3, 24).to(request.param)
    value_cache = torch.randn(50, 3, 24).to(request.param)
    key_cache[7], value_cache[0] = float("nan"), float("inf")
    return key_cache, value_cache


@pytest.mark.parametrize("slots", [[], [4], [49, 0, 7, 30], [-1, 12, -1, 3], [-1, -1]])
def test_write_touches_its_slots_only(ops: Ops, caches: tuple[Tensor, Tensor], slots: list[int]) -> None:
    key, value = torch.randn(2, len(slots), 3, 24).to(caches[0].dtype)
    expected = [cache.clone() for cache in caches]
    for i, slot in enumerate(slots):
        if slot >= 0:
            expected[0][slot], expected[1][slot] = key[i], value[i]
    ops.write_kv(key, value, *caches, torch.tensor(slots, dtype=torch.int64))
    for cache, wanted in zip(caches, expected, strict=True):
        assert torch.equal(bits(cache), bits(wanted))


def test_write_of_many_tokens(ops: Ops) -> None:
    """Enough for the native kernel to use its threads."""
    torch.set_num_threads(2)
    key, value = torch.randn(2, 500, 4, 64)
    key_cache, value_cache = torch.zeros(2, 600, 4, 64)
    slots = torch.randperm(600)[:500]
    ops.write_kv(key, value, key_cache, value_cache, slots)
    assert torch.equal(key_cache[slots], key)
    assert torch.equal(value_cache[slots], value)
    assert int((key_cache != 0).any(-1).any(-1).sum()) == 500


def test_write_from_a_fused_projection(ops: Ops, caches: tuple[Tensor, Tensor]) -> None:
    fused = torch.randn(2, 9, 24).to(caches[0].dtype)
    ops.write_kv(fused[:, 3:6], fused[:, 6:], *caches, torch.tensor([5, 6]))
    assert torch.equal(caches[0][5:7], fused[:, 3:6])
    assert torch.equal(caches[1][5:7], fused[:, 6:])


def test_copies_are_simultaneous(ops: Ops, caches: tuple[Tensor, Tensor]) -> None:
    """Two slots change places, and a chain moves up by one."""
    before = [cache.clone() for cache in caches]
    ops.copy_slots(caches, torch.tensor([1, 2, 10, 11, 12]), torch.tensor([2, 1, 11, 12, 13]))
    for cache, old in zip(caches, before, strict=True):
        old[[2, 1, 11, 12, 13]] = old[[1, 2, 10, 11, 12]]
        assert torch.equal(bits(cache), bits(old))


def test_no_copies(ops: Ops, caches: tuple[Tensor, Tensor]) -> None:
    before = [cache.clone() for cache in caches]
    none = torch.empty(0, dtype=torch.int64)
    ops.copy_slots(caches, none, none)
    assert all(torch.equal(bits(cache), bits(old)) for cache, old in zip(caches, before, strict=True))
