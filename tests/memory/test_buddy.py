"""The buddy allocator, by the authors' rules (paper, section 6.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedbench.memory.buddy import Buddy


def test_the_pool_is_carved_from_large_to_small() -> None:
    buddy = Buddy(981, 128)
    assert buddy.capacity(128) == 7
    assert buddy.capacity(64) == 15
    assert buddy.capacity(16) == 61
    assert buddy.capacity(4) == 245
    assert buddy.capacity(1) == 981
    buddy.check_integrity()


def test_a_split_keeps_the_low_half() -> None:
    buddy = Buddy(256, 128)
    assert buddy.allocate(32) == 128  # of the chunk that was freed last
    assert buddy.allocate(32) == 160
    assert buddy.allocate(64) == 192
    assert buddy.allocate(128) == 0


def test_the_chunk_freed_last_is_taken_first() -> None:
    buddy = Buddy(256, 64)
    first, second, third = (buddy.allocate(64) for _ in range(3))
    buddy.free(first)
    buddy.free(third)
    assert buddy.allocate(64) == third
    assert buddy.allocate(64) == first
    assert second == 128


def test_the_smallest_fitting_chunk_is_split() -> None:
    buddy = Buddy(128 + 16, 128)
    assert buddy.allocate(8) == 128  # from the tail of 16, not from the 128
    assert buddy.num_available(128) == 1


def test_buddies_merge_up_to_the_largest_chunk() -> None:
    buddy = Buddy(128, 128)
    addresses = [buddy.allocate(1) for _ in range(128)]
    assert sorted(addresses) == list(range(128))
    assert buddy.num_available(1) == 0
    for address in addresses:
        buddy.free(address)
        buddy.check_integrity()
    assert buddy.num_available(128) == 1


@pytest.mark.parametrize(("blocks", "size"), [(0, 1), (1, 1), (2, 2), (3, 4), (128, 128), (129, 256)])
def test_sizes_round_up_to_a_power_of_two(blocks: int, size: int) -> None:
    assert Buddy.chunk_size(blocks) == size


@given(
    num_blocks=st.integers(1, 300),
    operations=st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=60),
)
def test_any_order_of_operations_keeps_the_pool_whole(
    num_blocks: int, operations: list[tuple[bool, int]]
) -> None:
    buddy = Buddy(num_blocks, 128)
    taken: list[int] = []
    for is_allocation, number in operations:
        size = 1 << number
        if is_allocation and size <= 128 and buddy.num_available(size):
            available = buddy.num_available(size)
            taken.append(buddy.allocate(size))
            assert buddy.num_available(size) == available - 1
        elif taken and not is_allocation:
            buddy.free(taken.pop(number % len(taken)))
        buddy.check_integrity()
    for address in taken:
        buddy.free(address)
    assert buddy.num_available(1) == num_blocks
    assert all(buddy.num_available(1 << k) == buddy.capacity(1 << k) for k in range(8))
