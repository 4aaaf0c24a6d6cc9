"""Writing and copying slots: exact, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from ops.exact import assert_within
from pagedbench.ops.accuracy import bounded_rotation

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.interface import Ops


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
    """Runs change places, a chain moves up by one, and one slot goes to two."""
    before = [cache.clone() for cache in caches]
    runs = [(1, 20, 3), (20, 1, 3), (10, 11, 4), (40, 42, 1), (40, 44, 1)]
    ops.copy_runs(caches, caches, torch.tensor(runs))
    sources = [1, 2, 3, 20, 21, 22, 10, 11, 12, 13, 40, 40]
    destinations = [20, 21, 22, 1, 2, 3, 11, 12, 13, 14, 42, 44]
    for cache, old in zip(caches, before, strict=True):
        old[destinations] = old[sources]
        assert torch.equal(bits(cache), bits(old))


def test_copies_between_pools(ops: Ops, caches: tuple[Tensor, Tensor]) -> None:
    """Of different sizes; what is not copied to stays."""
    others = [torch.randn(30, 3, 24).to(caches[0].dtype) for _ in caches]
    before, expected = [cache.clone() for cache in caches], [other.clone() for other in others]
    ops.copy_runs(caches, others, torch.tensor([(48, 0, 2), (7, 29, 1)]))
    for cache, old, other, wanted in zip(caches, before, others, expected, strict=True):
        wanted[[0, 1, 29]] = old[[48, 49, 7]]
        assert torch.equal(bits(cache), bits(old))
        assert torch.equal(bits(other), bits(wanted))


def test_no_copies(ops: Ops, caches: tuple[Tensor, Tensor]) -> None:
    before = [cache.clone() for cache in caches]
    ops.copy_runs(caches, caches, torch.empty(0, 3, dtype=torch.int64))
    assert all(torch.equal(bits(cache), bits(old)) for cache, old in zip(caches, before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [8, 24, 64])
def test_rotation_happens_before_the_write(ops: Ops, dtype: torch.dtype, head_dim: int) -> None:
    """Queries and keys of a fused projection turn in place, each rounded once from float32."""
    heads, kv_heads, half = 4, 2, head_dim // 2
    fused = torch.randn(6, heads + 2 * kv_heads, head_dim).to(dtype)
    before = fused.clone()
    angles = torch.rand(6, half) * 6
    cosine, sine = angles.cos(), angles.sin()
    slots = torch.tensor([9, -1, 0, 3, 4, 11])
    key_cache, value_cache = torch.full((2, 12, kv_heads, head_dim), 7.0, dtype=dtype)
    query, key, value = fused.split((heads, kv_heads, kv_heads), dim=1)
    ops.rotate_and_write_kv(query, key, value, key_cache, value_cache, slots, cosine, sine)
    turned = bounded_rotation(before[:, : heads + kv_heads], cosine, sine)
    assert_within(fused[:, : heads + kv_heads], turned)
    assert torch.equal(value, before[:, heads + kv_heads :])
    written = slots >= 0
    assert torch.equal(key_cache[slots[written]], key[written])
    assert torch.equal(value_cache[slots[written]], value[written])
    assert int((key_cache == 7).all(-1).all(-1).sum()) == 12 - int(written.sum())
